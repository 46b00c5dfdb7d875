"""Accounts: find them, decide what each may do, merge and unmerge duplicates, hold the data of a person."""
