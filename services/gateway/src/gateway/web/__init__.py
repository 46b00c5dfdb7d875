"""The HTTP side: routes, query parameters, and the shapes of the answers."""
