"""What the door does with a verified body."""
