"""The integration with Sharegram as administrators see it: its status, its webhook and the secret of that."""
