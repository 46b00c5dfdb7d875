"""What the handlers' ports and checks stand on: Redis, Sharegram, the operating system."""
