"""The connection to Redis or Valkey. No data is only in Redis: every caller works without it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from safevideo_common.errors import StartupError
from safevideo_common.tls import TlsFiles, client_context

ANSWER_SECONDS: Final = 0.25
"""Timeout of connecting and of each answer. A healthy Redis answers in well under a millisecond."""

MAX_CONNECTIONS: Final = 16


_TLS_PARAMETERS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@asynccontextmanager
async def open_redis(url: str, db: int, *, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Redis]:
    """Open a client of database `db` with a bounded pool; it connects with its first command.

    `seconds` is the timeout of connecting, of each answer and of the wait for a free connection. A command is tried
    once; the caller decides about retries. It raises `redis.RedisError` if Redis is unavailable.

    With `rediss://` the server's certificate and host are verified. The parameters `ssl_ca_certs`, `ssl_certfile` and
    `ssl_keyfile` may name PEM files. Raises `StartupError` when `url` is not
    `redis[s]://[user:password@]host[:port]`, or a file cannot be used, without showing it.
    """
    parts = _checked(url)
    arguments: dict[str, Any] = dict(parse_url(parts._replace(query="").geturl()))
    if parts.scheme == "rediss":
        arguments |= {"connection_class": _TlsConnection, "tls": _tls_of(parts)}
    pool = BlockingConnectionPool(
        **arguments,
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
        with suppress(RedisError):  # a hanging Redis must not make an orderly stop fail
            await client.aclose()


class _TlsConnection(SSLConnection):
    """A connection with our TLS settings. Those of redis-py trust the system's roots beside a given CA."""

    def __init__(self, tls: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context.context = tls


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number; the error would quote the URL, and with it the password
        well_formed = False
    if not well_formed:
        raise StartupError("REDIS_URL must be redis://[user:password@]host[:port], or rediss:// with TLS.")
    if parts.path.strip("/") or (parts.query and parts.scheme != "rediss"):
        raise StartupError("REDIS_URL must end after host and port: each use has a database number of its own.")
    return parts


def _tls_of(parts: SplitResult) -> ssl.SSLContext:
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := set(parameters) - set(_TLS_PARAMETERS):
        raise StartupError(f"REDIS_URL has {len(unknown)} parameters that are none of {', '.join(_TLS_PARAMETERS)}.")
    files = (Path(parameters[name]) if name in parameters else None for name in _TLS_PARAMETERS)
    return client_context("REDIS_URL", TlsFiles(*files))
