"""The limits of the endpoint: what one process accepts, and what it spends on clients with invalid signatures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from multidict import CIMultiDictProxy

from safevideo_common.errors import Overloaded, RateLimited, RequestTimedOut, SafeVideoError, WebhookSignatureInvalid
from safevideo_common.web.client_address import ClientAddresses
from webhook_ingest.protection.signature_failures import CHEAP_BYTES, SignatureFailureLimiter, Tarpit
from webhook_ingest.settings import IngestSettings

# The bound on bodies that arrive slowly.


RETRY_AFTER_SECONDS: Final = 1


class _SlowBody:
    __slots__ = ("deadline", "is_evicted", "size")

    def __init__(self, size: int, deadline: asyncio.Timeout) -> None:
        self.size = size
        self.deadline = deadline
        self.is_evicted = False


class SlowBodyLimiter:
    """At most `max_bodies` bodies and `total_bytes` that are still arriving, each for `seconds` in all.

    At the limit, the body that has been arriving for longest is evicted. So slow senders evict each other: an honest
    body has the time in which the limit fills anew, which is far longer than it needs.
    """

    def __init__(self, *, max_bodies: int, total_bytes: int, seconds: float) -> None:
        self._max_bodies = max_bodies
        self._free_bytes = total_bytes
        self._seconds = seconds
        self._arriving: dict[_SlowBody, None] = {}

    @asynccontextmanager
    async def reading(self, size: int) -> AsyncIterator[None]:
        """Bound the read of a body of at most `size` bytes.

        Raises `RequestTimedOut` after the timeout, and `Overloaded` if the body was evicted.
        """
        self._make_room(size)
        body = None
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                body = _SlowBody(size, deadline)
                self._arriving[body] = None
                self._free_bytes -= size
                yield
        except TimeoutError:
            if body is not None and body.is_evicted:
                raise Overloaded("Too many bodies are still arriving.", retry_after=RETRY_AFTER_SECONDS) from None
            raise RequestTimedOut("The body did not arrive in time.") from None
        finally:
            if body in self._arriving:
                self._remove(body)

    def _remove(self, body: _SlowBody) -> None:
        del self._arriving[body]
        self._free_bytes += body.size

    def _make_room(self, size: int) -> None:
        while self._arriving and (len(self._arriving) >= self._max_bodies or self._free_bytes < size):
            oldest = next(iter(self._arriving))
            self._remove(oldest)
            if not oldest.deadline.expired():
                oldest.is_evicted = True
                oldest.deadline.reschedule(asyncio.get_running_loop().time())


FORWARDED: Final = "X-Forwarded-For"

TOTAL_FAILURES_PER_SECOND: Final = 100
"""Invalid signatures of all addresses together; beyond, every client with an invalid signature is throttled."""


class RequestHead(Protocol):
    """The head of a `web.Request` or of a `BufferedRequest`."""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """All headers."""
        ...

    @property
    def remote(self) -> str | None:
        """The address of the peer."""
        ...

    @property
    def content_length(self) -> int | None:
        """The size of the body, if the head has it."""
        ...


class WebhookConcurrencyLimit:
    """At most `limit` webhooks at once: `with in_flight:` around all work for one, including the read of its body.

    Entering raises `Overloaded` at the limit: the sender gets an error at once instead of a place in a queue.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0

    def __enter__(self) -> None:
        if self.count >= self._limit:
            raise Overloaded("Too many webhooks are in flight.", retry_after=RETRY_AFTER_SECONDS)
        self.count += 1

    def __exit__(self, *_raised: object) -> None:
        self.count -= 1


class Limits:
    """The limits of one process."""

    def __init__(self, settings: IngestSettings) -> None:
        self.in_flight = WebhookConcurrencyLimit(settings.max_webhooks_in_flight)
        self._slow_bodies = SlowBodyLimiter(
            max_bodies=max(1, settings.max_webhooks_in_flight // 2),  # so slow senders never use all of `in_flight`
            total_bytes=settings.slow_body_buffer_bytes,
            seconds=settings.body_timeout_seconds,
        )
        self._failures = SignatureFailureLimiter(
            burst=settings.failed_signatures_burst,
            per_minute=settings.failed_signatures_per_minute,
            total_per_second=TOTAL_FAILURES_PER_SECOND,
            large_bytes_per_second=settings.throttled_client_bytes_per_second,
            connections_per_second=settings.throttled_client_connections_per_second,
        )
        self._tarpit = Tarpit(places=settings.max_connections // 2, seconds=settings.throttled_client_delay_seconds)
        self._addresses = ClientAddresses(settings.trusted_networks())
        self._max_body_bytes = settings.max_webhook_bytes

    def admits_connection(self, peer: str | None) -> bool:
        """Return True if a new connection is accepted. A trusted proxy is always accepted: it carries many senders."""
        return self._addresses.is_trusted(peer) or self._failures.admits_connection(self._addresses.of(peer, ()))

    def admit_body(self, head: RequestHead) -> None:
        """Raise `RateLimited` for a large body of a throttled client, before it is read."""
        size = self._max_size(head)
        if size > CHEAP_BYTES:
            self._failures.admit_large_body(self.client_address(head), size)

    def reading_body(self, head: RequestHead) -> AbstractAsyncContextManager[None]:
        """Bound the read of a body that did not arrive with its head; see `SlowBodyLimiter.reading`."""
        return self._slow_bodies.reading(self._max_size(head))

    async def throttled_response(self, head: RequestHead, error: WebhookSignatureInvalid) -> SafeVideoError:
        """Record the failure. Return `error`, or for a throttled client, after a delay, `RateLimited`.

        Call this when the webhook is not in flight any more.
        """
        limited = self._failures.record_failure(self.client_address(head))
        if limited is None:
            return error
        await self._tarpit.delay()
        return RateLimited(limited.message, details=error.details, retry_after=limited.retry_after)

    def client_address(self, head: RequestHead) -> str:
        """Return the address of the client, looking through trusted proxies."""
        return self._addresses.of(head.remote, head.headers.getall(FORWARDED, ()))

    def _max_size(self, head: RequestHead) -> int:
        """Return the maximum size of the body: a chunked one does not announce its size."""
        return min(head.content_length or self._max_body_bytes, self._max_body_bytes)
