"""The connection to Redis or Valkey. No data is only in Redis: every caller works without it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from safevideo_common.errors import StartupError

ANSWER_SECONDS: Final = 0.25
"""Timeout of connecting and of each answer. A healthy Redis answers in well under a millisecond."""

MAX_CONNECTIONS: Final = 16


@asynccontextmanager
async def open_redis(url: str, db: int, *, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Redis]:
    """Open a client of database `db` with a bounded pool; it connects with its first command.

    `seconds` is the timeout of connecting, of each answer and of the wait for a free connection. A command is tried
    once; the caller decides about retries. It raises `redis.RedisError` if Redis is unavailable.
    Raises `StartupError` when `url` is not `redis[s]://[user:password@]host[:port]`, without showing it.
    """
    _check(url)
    pool = BlockingConnectionPool.from_url(
        url,
        db=db,
        protocol=2,
        max_connections=MAX_CONNECTIONS,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number; the error would quote the URL, and with it the password
        well_formed = False
    if not well_formed:
        raise StartupError("REDIS_URL must be redis://[user:password@]host[:port], or rediss:// with TLS.")
    if parts.path.strip("/") or parts.query:
        raise StartupError("REDIS_URL must end after host and port: each use has a database number of its own.")
