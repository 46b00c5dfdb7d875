"""Performers, read through the cache."""
