"""Requests: bodies, query parameters, the caller."""
