"""Authentication and authorization: API keys, roles, and the guard of a route."""
