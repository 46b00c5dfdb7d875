"""Serves the public and the admin API."""
