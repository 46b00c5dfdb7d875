"""Performer events: parsing, handling, cache invalidation."""
