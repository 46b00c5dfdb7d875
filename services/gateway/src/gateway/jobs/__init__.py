"""The admin API of background jobs."""
