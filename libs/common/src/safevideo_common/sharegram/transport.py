"""The transport: one HTTP request over a kept connection, and each way in which it can fail as one of our errors.

- Nothing here sends a request twice. aiohttp repeats GET, PUT and DELETE by itself if a kept connection turns out to be
  closed; a client middleware hides that error from it.
- No connection and no resolved name is older than a minute, so that a change of address is followed.
- TLS is verified against the system's roots or a given CA.
- Redirects are not followed, and a response is read up to a limit.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Self

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession
from multidict import CIMultiDictProxy
from yarl import URL

from safevideo_common.sharegram.errors import CallError, FailureReason, InvalidResponse, SharegramUnavailable

POOL_SECONDS: Final = 25.0
"""The time in which a pool takes new requests. A request takes at most 30 s, so a connection ends within a minute."""
IDLE_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 10.0

_CERTIFICATE_PROBLEMS: Final = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate is from an unknown CA",
    20: "the certificate is from an unknown CA",
    62: "the certificate is for another host",
    64: "the certificate is for another host",
}
"""By OpenSSL's verify code. Its own texts quote the host name."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it is sent."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes
    max_response_bytes: int
    needs_new_connection: bool


@dataclass(frozen=True, slots=True)
class WireResponse:
    """A response as it was received, read to its end."""

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    body: bytes


class HttpTransport:
    """Connections to one server, kept between requests. The number of requests at once is bounded above it."""

    def __init__(self, tls: ssl.SSLContext, pool_seconds: float = POOL_SECONDS) -> None:
        self._tls = tls
        self._pool_seconds = pool_seconds
        self._pool: _Pool | None = None
        self._retired: set[_Pool] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, tls: ssl.SSLContext, *, pool_seconds: float = POOL_SECONDS) -> AsyncIterator[Self]:
        """Open a transport; it connects with its first request."""
        transport = cls(tls, pool_seconds)
        try:
            yield transport
        finally:
            for pool in [transport._pool, *transport._retired]:
                if pool is not None:
                    await pool.session.close()

    async def send(self, request: WireRequest) -> WireResponse:
        """Send `request` once, and return the whole response, whatever its status.

        Raises `SharegramUnavailable` if there is none, and `InvalidResponse` if it is not HTTP, compressed or too
        large. The caller bounds the time.
        """
        pool = self._new_pool() if request.needs_new_connection else self._current_pool()
        pool.requests += 1
        attempt = _Attempt()
        _attempt.set(attempt)
        try:
            await self._close_retired()
            return await _exchange(pool.session, request)
        except _ConnectionLost as error:
            if attempt.is_on_kept_connection:
                self._retire(pool)  # what closed one idle connection has closed the others too
            raise _after_connection_lost(error, attempt) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure_of(error) from None
        finally:
            pool.requests -= 1
            if pool is not self._pool:
                self._retired.add(pool)
                await self._close_retired()

    def _current_pool(self) -> "_Pool":
        now = asyncio.get_running_loop().time()
        if self._pool is not None and now >= self._pool.expires_at:
            self._retire(self._pool)
        if self._pool is None:
            self._pool = self._new_pool()
        return self._pool

    def _retire(self, pool: "_Pool") -> None:
        """Give `pool` no further request."""
        if pool is self._pool:
            self._pool = None
            self._retired.add(pool)

    async def _close_retired(self) -> None:
        """Close the retired pools that have no request in flight. One whose closing is cancelled stays for the next."""
        for pool in [each for each in self._retired if not each.requests]:
            await pool.session.close()
            self._retired.discard(pool)

    def _new_pool(self) -> "_Pool":
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=self._tls,
            ttl_dns_cache=int(POOL_SECONDS),
            keepalive_timeout=IDLE_SECONDS,
            socket_factory=_open_socket,
        )
        session = ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            middlewares=(_send_once,),
        )
        return _Pool(session, asyncio.get_running_loop().time() + self._pool_seconds)


class _Pool:
    """The connections that were opened in one period."""

    __slots__ = ("expires_at", "requests", "session")

    def __init__(self, session: ClientSession, expires_at: float) -> None:
        self.session = session
        self.expires_at = expires_at
        self.requests = 0


class _Attempt:
    """A request in flight. It is on a kept connection unless it opens a socket."""

    __slots__ = ("is_on_kept_connection",)

    def __init__(self) -> None:
        self.is_on_kept_connection = True


_attempt: ContextVar[_Attempt] = ContextVar("sharegram_attempt")
"""The request of this task. aiohttp's tracing says the same, and costs a tenth of a call."""


def _open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    _attempt.get().is_on_kept_connection = False
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


class _ConnectionLost(Exception):
    """A connection that ended before the head of the response. No `ClientError`: aiohttp would send again."""


async def _send_once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never connected; aiohttp does not repeat that
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLost from error


async def _exchange(session: ClientSession, request: WireRequest) -> WireResponse:
    async with session.request(
        request.method,
        request.url,
        headers=request.headers,
        data=BytesIO(request.body) if request.body else None,  # written in pieces: a document has megabytes
        allow_redirects=False,
    ) as response:
        body = await _read(response, request.max_response_bytes)
        return WireResponse(response.status, response.reason or "", response.headers, body)


async def _read(response: ClientResponse, limit: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise InvalidResponse(FailureReason.NOT_JSON, "the response is compressed, which was not requested")
    size = response.content_length
    if size is not None:
        if size > limit:
            raise _too_large(limit)
        return await response.read()
    chunks, received = [], 0
    async for chunk in response.content.iter_any():
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> InvalidResponse:
    return InvalidResponse(FailureReason.TOO_LARGE, f"the response has more than {limit} bytes")


def _after_connection_lost(error: _ConnectionLost, attempt: _Attempt) -> SharegramUnavailable:
    cause = error.__cause__
    name = _errno_name(cause) if isinstance(cause, OSError) and cause.errno else "ECONNRESET"
    if attempt.is_on_kept_connection:
        return SharegramUnavailable(FailureReason.STALE_CONNECTION, f"{name}: a kept connection was closed")
    return SharegramUnavailable(FailureReason.RESET, f"{name}: the connection was closed before the response")


def _failure_of(error: Exception) -> CallError:
    """Return our error for one of aiohttp's. The order matters: most of them are also of a more general class."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return SharegramUnavailable(FailureReason.TLS, f"TLS: {certificate_problem(error.certificate_error)}")
        case aiohttp.ClientConnectorDNSError():
            return SharegramUnavailable(FailureReason.UNRESOLVED, "ENOTFOUND: the host name was not resolved")
        case aiohttp.ClientConnectorError():
            return _connect_failure(error.os_error)
        case TimeoutError():
            return SharegramUnavailable(FailureReason.TIMEOUT, f"ETIMEDOUT: no connection within {CONNECT_SECONDS:g} s")
        case aiohttp.ClientPayloadError() | aiohttp.ClientOSError() | ConnectionResetError():
            return SharegramUnavailable(FailureReason.RESET, "ECONNRESET: the response was cut")
        case aiohttp.ClientResponseError():
            return InvalidResponse(FailureReason.NOT_HTTP, "the response is not valid HTTP")
        case _:
            return SharegramUnavailable(FailureReason.UNREACHABLE, f"no connection ({type(error).__name__})")


def _connect_failure(error: OSError) -> SharegramUnavailable:
    if isinstance(error, ssl.SSLError):
        return SharegramUnavailable(FailureReason.TLS, f"TLS: the handshake failed ({error.reason or 'unknown'})")
    # Several addresses of a host that fail in different ways are one error without a number.
    if error.errno in {errno.ECONNREFUSED, None}:
        return SharegramUnavailable(FailureReason.REFUSED, "ECONNREFUSED: the connection was refused")
    if error.errno == errno.ECONNRESET:
        return SharegramUnavailable(FailureReason.RESET, "ECONNRESET: the connection was reset")
    return SharegramUnavailable(FailureReason.UNREACHABLE, f"{_errno_name(error)}: no connection")


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "ECONNRESET")


def certificate_problem(error: Exception) -> str:
    """Return why the certificate of a server was refused, without its host name."""
    code = getattr(error, "verify_code", None)
    return _CERTIFICATE_PROBLEMS.get(code or 0, f"the certificate was not verified (OpenSSL code {code})")
