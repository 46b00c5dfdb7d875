"""Privacy: legal holds, and the erasure of one person. `docs/privacy.md` says what is stored, and for how long."""
