"""The rules, and nothing but the rules: standard library only, no clock, no network, no database."""
