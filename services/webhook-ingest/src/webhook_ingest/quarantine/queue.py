"""The queue of rejected webhooks that await the database: which ones enter it, and how many of one address.

The rule for plausible webhooks: contract, §7.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple, get_args

from multidict import CIMultiDictProxy
from prometheus_client import CollectorRegistry

from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.quarantine.limits import QuarantineUsage
from safevideo_common.resilience.token_bucket import TokenBuckets
from safevideo_common.tasks import wait_event
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.signatures import SharegramScheme, StandardScheme, sharegram, standard

SIGNATURE_HEADERS: Final = {
    "sharegram": SharegramScheme.signature_header,
    "standard": StandardScheme.signature_header,
}
STORED_HEADERS: Final = (
    sharegram.SIGNATURE,
    sharegram.TIMESTAMP,
    sharegram.EVENT_ID,
    standard.ID,
    standard.TIMESTAMP,
    standard.SIGNATURE,
)
"""The headers that are needed to verify the webhook again. Add those of a new scheme here."""

TRACEPARENT: Final = "traceparent"
"""Stored with the headers, as ingest determined it, because the event carries it."""

MAX_VALUES: Final = 2
"""Values of one header. A second one may be the reason of the rejection; more are useless."""

BATCH_ROWS: Final = 100
BATCH_BYTES: Final = 4 << 20

ADDRESS_PART: Final = 4
"""One address may use a quarter of the queue: so many must flood together before an honest sender finds it full."""

QUEUE_BYTES: Final = 32 << 20
BYTES_PER_SECOND: Final = QUEUE_BYTES // ADDRESS_PART / 60
MAX_ADDRESSES: Final = 10_000
"""Addresses with a token bucket. A forgotten one gets a full bucket: at most a minute's worth."""

_VALUE: Final = re.compile(r"[ -~]{0,1024}")
_OBJECT: Final = re.compile(rb"\s*\{")

Outcome = Literal[
    "kept", "repeated", "over_address_limit", "queue_full", "database_unavailable", "unstorable", "evicted", "expired"
]


class QuarantineMetrics:
    """The number of plausible rejected webhooks by outcome, and the size of the table."""

    def __init__(self, registry: CollectorRegistry) -> None:
        webhooks = counter(metric_catalog.QUARANTINED_WEBHOOKS, registry)
        self._webhooks: Final = {outcome: webhooks.labels(outcome) for outcome in get_args(Outcome)}
        self._rows = gauge(metric_catalog.QUARANTINE_ROWS, registry)
        self._bytes = gauge(metric_catalog.QUARANTINE_BYTES, registry)

    def count(self, outcome: Outcome, number: int = 1) -> None:
        """Count webhooks with this outcome."""
        self._webhooks[outcome].inc(number)

    def set_usage(self, usage: QuarantineUsage) -> None:
        """Set the present size of the table."""
        self._rows.set(usage.rows)
        self._bytes.set(usage.bytes)


class RejectedWebhook(NamedTuple):
    """A rejected webhook as it was received."""

    received_at: datetime
    reason: str
    code: str
    scheme: str
    """The schemes whose signature header is present: `sharegram`, `standard`, or both joined by a plus sign."""
    headers: Mapping[str, Sequence[str]]
    body: bytes
    remote: str
    request_id: str


def is_plausible(headers: CIMultiDictProxy[str], body: bytes) -> bool:
    """Return True if the request has a signature header of ours and a JSON body of an accepted size.

    The values of the stored headers must have a length and characters that a scheme could accept.
    """
    return (
        any(name in headers for name in SIGNATURE_HEADERS.values())
        and 0 < len(body) <= MAX_VALUE_BYTES
        and ("json" in headers.get("Content-Type", "").lower() or _OBJECT.match(body) is not None)
        and all(_are_valid(headers.getall(name, ())) for name in STORED_HEADERS)
    )


class QuarantineQueue:
    """A bounded queue in order of reception. What finds no room is dropped and counted."""

    def __init__(
        self, per_minute: int, metrics: QuarantineMetrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`per_minute` is the rate of one address, and its burst."""
        self._max_rows = ADDRESS_PART * per_minute
        self._metrics = metrics
        self._clock = clock
        self._row_buckets = TokenBuckets(per_minute, per_minute / 60, MAX_ADDRESSES)
        self._byte_buckets = TokenBuckets(QUEUE_BYTES / ADDRESS_PART, BYTES_PER_SECOND, MAX_ADDRESSES)
        self._waiting: deque[RejectedWebhook] = deque()
        self._bytes = 0
        self._is_filled = asyncio.Event()

    def offer_request(
        self,
        headers: CIMultiDictProxy[str],
        body: bytes,
        error: WebhookSignatureInvalid,
        *,
        received_at: datetime,
        remote: str,
        correlation: Correlation,
    ) -> None:
        """Add a rejected request if it is plausible. `received_at` is the time that its timestamp was compared with."""
        if not is_plausible(headers, body):
            return
        stored = {str(name): list(headers.getall(name)) for name in STORED_HEADERS if name in headers}
        self.offer(
            RejectedWebhook(
                received_at,
                str((error.details or {}).get("reason", "")),
                error.code,
                "+".join(scheme for scheme, name in SIGNATURE_HEADERS.items() if name in headers),
                stored | {TRACEPARENT: [correlation.traceparent]},
                body,
                remote,
                correlation.request_id,
            )
        )

    def offer(self, webhook: RejectedWebhook) -> None:
        """Add or drop a webhook, at once and without an error."""
        size = len(webhook.body)
        if len(self._waiting) >= self._max_rows or self._bytes + size > QUEUE_BYTES:
            self._metrics.count("queue_full")
        elif not self._take_tokens(webhook.remote, size):
            self._metrics.count("over_address_limit")
        else:
            self._waiting.append(webhook)
            self._bytes += size
            self._is_filled.set()

    async def wait(self, seconds: float) -> None:
        """Return when the queue has a webhook, at the latest after `seconds`."""
        await wait_event(self._is_filled, seconds)

    def next_batch(self) -> list[RejectedWebhook]:
        """Remove and return at most `BATCH_ROWS` webhooks of `BATCH_BYTES`; a larger one alone."""
        batch: list[RejectedWebhook] = []
        size = 0
        while self._waiting and len(batch) < BATCH_ROWS:
            size += len(self._waiting[0].body)
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        self._bytes -= sum(len(each.body) for each in batch)
        if not self._waiting:
            self._is_filled.clear()
        return batch

    def _take_tokens(self, remote: str, size: int) -> bool:
        now = self._clock()
        rows, bytes_ = self._row_buckets.get(remote), self._byte_buckets.get(remote)
        return rows.take(now) and bytes_.take(now, size)


def _are_valid(values: Sequence[str]) -> bool:
    return len(values) <= MAX_VALUES and all(_VALUE.fullmatch(value) for value in values)
