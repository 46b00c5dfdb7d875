"""Harnesses: one part of the system, ready to be driven by a test."""
