"""The admin API of replays."""
