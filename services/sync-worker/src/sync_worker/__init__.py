"""Consumes performer events and keeps performers."""
