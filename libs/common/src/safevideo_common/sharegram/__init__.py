"""Calls to Sharegram: the health probe now, the client of its API next to them."""
