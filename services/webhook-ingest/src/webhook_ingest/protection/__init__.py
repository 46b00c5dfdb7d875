"""Protection from hostile and slow senders. `Limits` is the interface of the endpoint."""
