"""Databases of a test's own, on servers that all tests of a run share."""

import re
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import redis
from sqlalchemy import text
from sqlalchemy.engine import Connection, make_url

from safevideo_common.errors import StartupError
from safevideo_devstack.backends.probes import mysql_connection

REDIS_DATABASES: Final = (0, 2, 3)
MARK_DATABASE: Final = 1
MARK: Final = "safevideo:tests"
"""In an external Redis, this key says that tests may delete the other databases. No service uses database 1."""


def created(server_url: str) -> str:
    """Create an empty database and return its URL."""
    name = f"test_{secrets.token_hex(6)}"
    with mysql_connection(server_url) as connection:
        connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


class DatabaseCopies:
    """Databases with the tables of a template and no rows.

    A copy is emptied after its test and then serves another one, since to create 25 tables takes longer than most
    tests. One whose tables were changed, or which somebody still uses, is dropped.
    """

    def __init__(self, template_url: str) -> None:
        self._template_url = template_url
        self._name = make_url(template_url).database
        self._free: list[str] = []
        with mysql_connection(template_url) as connection:
            self._schema = _schema_of(connection)

    def take(self) -> str:
        """Return the URL of a copy that nobody else has."""
        return self._free.pop() if self._free else self._create()

    def give_back(self, url: str) -> None:
        """Empty the copy for the next test, or drop it."""
        with mysql_connection(url) as connection:
            reusable = not _users_of(connection) and _schema_of(connection) == self._schema
            if reusable:
                _empty(connection)
                self._copy_version(connection)
        if reusable:
            self._free.append(url)
        else:
            dropped(url)

    def close(self) -> None:
        """Drop the copies that nobody has."""
        while self._free:
            dropped(self._free.pop())

    def _create(self) -> str:
        url = created(self._template_url)
        with mysql_connection(url) as connection:
            for table in connection.scalars(text(f"SHOW TABLES FROM {self._name}")).all():
                connection.execute(text(f"CREATE TABLE {table} LIKE {self._name}.{table}"))
            self._copy_version(connection)
        return url

    def _copy_version(self, connection: Connection) -> None:
        connection.execute(text(f"INSERT INTO alembic_version SELECT * FROM {self._name}.alembic_version"))


def dropped(url: str) -> None:
    """Drop a database. Waits for a connection that still uses a table of it."""
    with mysql_connection(url) as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {make_url(url).database}"))


def _schema_of(connection: Connection) -> Sequence[str]:
    tables = connection.scalars(text("SHOW TABLES")).all()
    statements = [str(connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1]) for name in tables]
    triggers = connection.scalars(text("SHOW TRIGGERS")).all()
    return [re.sub(r" AUTO_INCREMENT=\d+", "", each) for each in statements] + [str(each) for each in triggers]


def _users_of(connection: Connection) -> int:
    """Return how many other connections have this database selected."""
    others = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()"
    return int(connection.scalar(text(others)) or 0)


def _empty(connection: Connection) -> None:
    """Empty the tables that have rows, or had some: numbers start at 1 again."""
    if not connection.dialect.is_mariadb:  # type: ignore[attr-defined]  # of the dialects of MySQL
        connection.execute(text("SET SESSION information_schema_stats_expiry = 0"))
    counters = "SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
    tables = connection.execute(text(counters)).all()
    rows = " UNION ALL ".join(f"(SELECT '{name}' FROM {name} LIMIT 1)" for name, _ in tables)
    used = {*connection.scalars(text(rows)), *(name for name, next_number in tables if (next_number or 1) > 1)}
    for name in used:
        connection.execute(text(f"TRUNCATE TABLE {name}"))


def emptied(redis_url: str, *, ours: bool) -> None:
    """Empty the Redis databases that services use.

    A Redis that is not `ours` is marked if it is empty. Raises `StartupError` if it is neither empty nor marked.
    """
    if not ours:
        _claim(redis_url)
    for number in REDIS_DATABASES:
        with _redis(redis_url, number) as client:
            client.flushdb()


def _claim(redis_url: str) -> None:
    with _redis(redis_url, MARK_DATABASE) as client:
        if client.exists(MARK):
            return
        if not all(_is_empty(redis_url, number) for number in REDIS_DATABASES):
            raise StartupError(
                "REDIS_URL names a Redis with keys that no test wrote, and tests would delete them. Name another, "
                f"or allow it: redis-cli -n {MARK_DATABASE} set {MARK} yes"
            )
        client.set(MARK, "yes")


def _is_empty(redis_url: str, number: int) -> bool:
    with _redis(redis_url, number) as client:
        return not client.dbsize()


def _redis(url: str, number: int) -> redis.Redis:
    address = urlsplit(url)._replace(path=f"/{number}").geturl()  # the number in a URL wins over the argument `db`
    return redis.Redis.from_url(address, socket_timeout=5, socket_connect_timeout=5)
