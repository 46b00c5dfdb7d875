"""The stack on a developer's machine: backends, and `make run`."""
