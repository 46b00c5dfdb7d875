"""Redis: the connection to it, and what is kept there for a while to spare the database."""
