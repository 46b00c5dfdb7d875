"""Duplicate accounts: list, merge and unmerge them."""
