"""The limits of the endpoint: what one process accepts, and what it spends on clients with invalid signatures."""

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from multidict import CIMultiDictProxy

from safevideo_common.errors import Overloaded, RateLimited, SafeVideoError, WebhookSignatureInvalid
from webhook_ingest.protection.client_address import ClientAddresses
from webhook_ingest.protection.signature_failures import CHEAP_BYTES, SignatureFailureLimiter, Tarpit
from webhook_ingest.protection.slow_bodies import RETRY_AFTER_SECONDS, SlowBodyLimiter
from webhook_ingest.settings import IngestSettings

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


class ConcurrencyLimit:
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
        self.in_flight = ConcurrencyLimit(settings.max_webhooks_in_flight)
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
