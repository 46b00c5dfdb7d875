"""Parsing of requests: bodies, query parameters, the caller."""
