"""What the simulator serves, and the layers around it: recording, failures, faults, credentials, idempotency."""
