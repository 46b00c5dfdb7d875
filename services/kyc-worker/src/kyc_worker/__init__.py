"""Consumes KYC events and keeps kyc_requests."""
