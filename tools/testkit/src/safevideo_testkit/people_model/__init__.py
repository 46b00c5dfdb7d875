"""The model of the people's half: replicas whose every I/O can fail, operations, and what must be true after them."""
