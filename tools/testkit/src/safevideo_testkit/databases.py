"""What a test has to itself on servers that the whole run shares."""

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
"""In a Redis that somebody else runs, this key says that tests may delete what is there. No service uses database 1."""


def created(server_url: str) -> str:
    """Make an empty database and return its URL."""
    name = f"test_{secrets.token_hex(6)}"
    with mysql_connection(server_url) as connection:
        connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def dropped(url: str) -> None:
    """Remove it with everything in it; a connection that still uses one of its tables would make this wait."""
    with mysql_connection(url) as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {make_url(url).database}"))


def emptied(redis_url: str, *, ours: bool) -> None:
    """Empty the Redis databases that services use.

    One that is not `ours` is marked when it is found empty. Raises `StartupError` when it is neither empty nor marked.
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
                f"or say that they may go: redis-cli -n {MARK_DATABASE} set {MARK} yes"
            )
        client.set(MARK, "yes")


def _is_empty(redis_url: str, number: int) -> bool:
    with _redis(redis_url, number) as client:
        return not client.dbsize()


def _redis(url: str, number: int) -> redis.Redis:
    address = urlsplit(url)._replace(path=f"/{number}").geturl()  # the number in a URL wins over the argument `db`
    return redis.Redis.from_url(address, socket_timeout=5, socket_connect_timeout=5)
