"""Decisions about performers that do not come from Sharegram."""
