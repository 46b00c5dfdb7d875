"""Redis: the connection, and the cache of performers that saves database reads."""
