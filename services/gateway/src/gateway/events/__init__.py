"""The admin API of received events."""
