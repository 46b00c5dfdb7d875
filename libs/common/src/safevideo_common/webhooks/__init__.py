"""Webhooks as they arrive: signatures, secrets, and from a verified body to the envelope."""
