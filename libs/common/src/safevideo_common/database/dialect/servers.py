"""Which of the MySQL family a server is: it says so itself, the URL does not."""

from sqlalchemy import Dialect


def is_mariadb(dialect: Dialect) -> bool:
    """Whether the server is MariaDB; known once a connection was made."""
    return bool(getattr(dialect, "is_mariadb", False))
