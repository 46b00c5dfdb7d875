"""Patience with what fails: how long to wait before trying again."""
