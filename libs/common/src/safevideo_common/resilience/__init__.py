"""Rules for dependencies that fail: how long to wait, how often to try, what to log."""
