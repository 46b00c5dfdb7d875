"""Rejected webhooks that look like ours, kept for a later verification."""
