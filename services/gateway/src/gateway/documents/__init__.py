"""Uploaded documents: their type by content, and their conversion in a process of their own."""
