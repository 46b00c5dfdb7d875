"""The admin API of rejected webhooks, and their verification again."""
