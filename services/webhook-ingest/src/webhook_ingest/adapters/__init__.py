"""What stands between the handlers and the outside."""
