"""Odd and forged requests to webhook-ingest, made from a seed."""
