"""The library that the four services share. ARCHITECTURE.md says which room holds what."""
