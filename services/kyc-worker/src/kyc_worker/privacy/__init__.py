"""Deletion of personal data: of KYC requests after their time, and of a person who has to be erased."""
