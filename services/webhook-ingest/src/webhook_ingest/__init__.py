"""Verifies Sharegram's webhooks and publishes them to the log, untouched."""
