"""The bounds of the door, as its handler uses them."""

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from multidict import CIMultiDictProxy

from safevideo_common.errors import RateLimited, SafeVideoError, WebhookSignatureInvalid
from webhook_ingest.protection.client_address import ClientAddresses
from webhook_ingest.protection.concurrency import ConcurrencyLimit, SlowBodyLimiter
from webhook_ingest.protection.signature_failures import CHEAP_BYTES, SignatureFailureLimiter, Tarpit
from webhook_ingest.settings import IngestSettings

FORWARDED: Final = "X-Forwarded-For"

EVERYONE_PER_SECOND: Final = 100
"""Failed signatures of all addresses together; beyond, whoever fails is a suspect."""


class RequestHead(Protocol):
    """What the bounds look at: of a `web.Request`, or of a `BufferedRequest`."""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """All of them."""
        ...

    @property
    def remote(self) -> str | None:
        """The peer's address."""
        ...

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, where the head says it."""
        ...


class Limits:
    """What one process takes, and what it spends on those who send wrong signatures."""

    def __init__(
        self,
        *,
        in_flight: ConcurrencyLimit,
        late_bodies: SlowBodyLimiter,
        failed: SignatureFailureLimiter,
        held_back: Tarpit,
        addresses: ClientAddresses,
        max_body_bytes: int,
    ) -> None:
        self.in_flight = in_flight
        self._late_bodies = late_bodies
        self._failed = failed
        self._held_back = held_back
        self._addresses = addresses
        self._max_body_bytes = max_body_bytes

    def admits_connection(self, peer: str | None) -> bool:
        """Whether a new connection is taken. Those of a trusted proxy always are: it carries what others send."""
        return self._addresses.is_trusted(peer) or self._failed.admits_connection(self._addresses.of(peer, ()))

    def admit(self, request: RequestHead) -> None:
        """Before the body is read. Raises `RateLimited` for a large one of a suspect."""
        size = self._size(request)
        if size > CHEAP_BYTES:
            self._failed.admit(self.address(request), size)

    def waiting_for_body(self, request: RequestHead) -> AbstractAsyncContextManager[None]:
        """Around the reading of a body that did not come along with its head; see `SlowBodyLimiter`."""
        return self._late_bodies.waiting(self._size(request))

    async def answer_to_forger(self, request: RequestHead, error: WebhookSignatureInvalid) -> SafeVideoError:
        """What is raised for a signature that does not hold: `error`, or to a suspect, after a while, `RateLimited`.

        To be called when the webhook is not in flight any more.
        """
        limited = self._failed.failed(self.address(request))
        if limited is None:
            return error
        await self._held_back.hold()
        return RateLimited(limited.message, details=error.details, retry_after=limited.retry_after)

    def _size(self, request: RequestHead) -> int:
        """The most that will be read: a body in chunks does not say how long it is."""
        return min(request.content_length or self._max_body_bytes, self._max_body_bytes)

    def address(self, request: RequestHead) -> str:
        """Whom the request comes from, as far as the proxies in front are trusted."""
        return self._addresses.of(request.remote, request.headers.getall(FORWARDED, ()))


def limits_of(settings: IngestSettings) -> Limits:
    """The bounds that are set."""
    return Limits(
        in_flight=ConcurrencyLimit(settings.max_webhooks_in_flight),
        late_bodies=SlowBodyLimiter(
            bodies=max(1, settings.max_webhooks_in_flight // 2),  # so that slow senders can never fill the house
            total_bytes=settings.late_body_bytes,
            seconds=settings.body_timeout_seconds,
        ),
        failed=SignatureFailureLimiter(
            burst=settings.failed_signatures_burst,
            per_minute=settings.failed_signatures_per_minute,
            everyone_per_second=EVERYONE_PER_SECOND,
            share=settings.suspects_bytes_per_second,
            connections_per_second=settings.suspects_connections_per_second,
        ),
        held_back=Tarpit(places=settings.max_connections // 2, seconds=settings.suspects_wait_seconds),
        addresses=ClientAddresses(settings.trusted_networks()),
        max_body_bytes=settings.max_webhook_bytes,
    )
