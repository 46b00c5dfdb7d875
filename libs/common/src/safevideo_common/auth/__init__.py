"""Who calls: API keys, roles, and the guard of a route."""
