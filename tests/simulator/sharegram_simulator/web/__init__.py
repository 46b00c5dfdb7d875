"""The HTTP interface of the simulator, and its layers: recording, failures, faults, credentials, idempotency."""
