"""The admin API of the audit log."""
