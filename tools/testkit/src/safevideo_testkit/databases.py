"""Databases of a test's own, on servers that all tests of a run share."""

import secrets
from typing import Final
from urllib.parse import urlsplit

import redis
from sqlalchemy import text
from sqlalchemy.engine import make_url

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


def copied(template_url: str) -> str:
    """Create a database with the tables and the schema version of another one, and return its URL."""
    url, template = created(template_url), make_url(template_url).database
    with mysql_connection(url) as connection:
        for table in connection.scalars(text(f"SHOW TABLES FROM {template}")).all():
            connection.execute(text(f"CREATE TABLE {table} LIKE {template}.{table}"))
        connection.execute(text(f"INSERT INTO alembic_version SELECT * FROM {template}.alembic_version"))
    return url


def dropped(url: str) -> None:
    """Drop a database. Waits for a connection that still uses a table of it."""
    with mysql_connection(url) as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {make_url(url).database}"))


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
