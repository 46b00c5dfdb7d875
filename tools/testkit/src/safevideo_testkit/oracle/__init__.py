"""Reference models: from a list of events to the expected state."""
