"""The task that writes the queue to the quarantine table, and keeps the table within its bounds."""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple

import orjson

from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.encryption import Cipher
from safevideo_common.errors import DatabaseConflict, DataRejected, SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine import store as quarantine_store
from safevideo_common.quarantine.limits import RetentionLimits, TrimResult, trim_to
from safevideo_common.quarantine.store import Rejection, RepeatCount
from safevideo_common.webhooks.signatures import sharegram
from webhook_ingest.quarantine.queue import TRACEPARENT, QuarantineMetrics, QuarantineQueue, RejectedWebhook

GATHER_SECONDS: Final = 0.5
"""The pause between two batches. With `BATCH_ROWS` it bounds the writes in a flood to 200 rows a second."""

TRIM_SECONDS: Final = 60.0
"""The interval in which expired rows are removed while nothing comes in."""

LAST_SECONDS: Final = 2.0
"""Timeout of the last writes, when the process ends."""

MAX_ATTEMPTS: Final = 3
CONFLICT_SECONDS: Final = 0.05

_UNSIGNED: Final = frozenset({str(sharegram.TIMESTAMP), TRACEPARENT})
"""Headers that differ in each retry of a webhook, and that its signature does not cover."""


class GroupedRejections(NamedTuple):
    """The deliveries of one webhook in a batch."""

    first: RejectedWebhook
    body_sha256: str
    times: int
    last_seen_at: datetime


class QuarantineWriter:
    """A task that writes batches of the queue. On an error a batch is dropped and counted: its senders try again."""

    def __init__(
        self,
        queue: QuarantineQueue,
        database: Database,
        cipher: Cipher,
        limits: RetentionLimits,
        *,
        clock: Clock,
        logger: FilteringBoundLogger,
        metrics: QuarantineMetrics,
    ) -> None:
        self._queue = queue
        self._database = database
        self._cipher = cipher
        self._limits = limits
        self._clock = clock
        self._logger = logger
        self._metrics = metrics
        self._is_unavailable = False

    async def run(self) -> None:
        """Write until cancelled; then write the rest of the queue, for at most `LAST_SECONDS`."""
        batch: Sequence[RejectedWebhook] = ()
        try:
            while True:
                batch = ()
                await self._queue.wait(TRIM_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
                batch = self._queue.next_batch()
                await self._write(batch)
        finally:
            await self._write_rest(batch)

    async def _write_rest(self, interrupted: Sequence[RejectedWebhook]) -> None:
        rest = interrupted or self._queue.next_batch()
        try:
            async with asyncio.timeout(LAST_SECONDS):
                while rest:
                    await self._write(rest)
                    rest = self._queue.next_batch()
        except TimeoutError:
            while rest:
                self._metrics.count("database_unavailable", len(rest))
                rest = self._queue.next_batch()

    async def _write(self, batch: Sequence[RejectedWebhook]) -> None:
        try:
            await self._store(batch)
        except DataRejected:
            await self._write_individually(batch)
        except SafeVideoError as error:
            self._metrics.count("database_unavailable", len(batch))
            self._log_unavailable(error)

    async def _write_individually(self, batch: Sequence[RejectedWebhook]) -> None:
        """Write the halves of a batch, so that a row that the database rejects does not cost the others."""
        if len(batch) <= 1:
            self._metrics.count("unstorable", len(batch))
            return
        half = len(batch) // 2
        await self._write(batch[:half])
        await self._write(batch[half:])

    async def _store(self, batch: Sequence[RejectedWebhook]) -> None:
        webhooks = await asyncio.to_thread(group_rejections, batch)
        async with self._database.read_connection() as reading:
            existing = await quarantine_store.existing_fingerprints(reading, webhooks)
        new = await asyncio.to_thread(encrypt_new, webhooks, existing, self._cipher)
        repeats = count_repeats(webhooks, existing)
        trimmed = await self._transact(new, repeats)
        self._report(len(new), len(batch) - len(new), trimmed)

    async def _transact(self, new: Sequence[Rejection], repeats: Sequence[RepeatCount]) -> TrimResult:
        attempts = 0
        while True:
            attempts += 1
            try:
                async with self._database.transaction() as tx:
                    await quarantine_store.count_repeats(tx, repeats)
                    await quarantine_store.add(tx, new)
                    return await trim_to(tx, self._limits, self._clock())
            except DatabaseConflict:
                if attempts == MAX_ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, CONFLICT_SECONDS))  # noqa: S311 - no secret depends on jitter

    def _report(self, added: int, repeated: int, trimmed: TrimResult) -> None:
        self._is_unavailable = False
        self._metrics.count("kept", added)
        self._metrics.count("repeated", repeated)
        self._metrics.count("evicted", trimmed.evicted)
        self._metrics.count("expired", trimmed.expired)
        self._metrics.set_usage(trimmed.usage)
        if added:
            self._logger.info(
                "Webhooks quarantined",
                kept=added, repeated=repeated, evicted=trimmed.evicted, rows=trimmed.usage.rows,
            )  # fmt: skip

    def _log_unavailable(self, error: SafeVideoError) -> None:
        if not self._is_unavailable:  # one line an outage
            self._logger.warning(
                "Quarantine unavailable, rejected webhooks dropped", code=error.code, error=error.message
            )
        self._is_unavailable = True


def group_rejections(batch: Iterable[RejectedWebhook]) -> dict[str, GroupedRejections]:
    """Group deliveries of the same webhook by fingerprint, in order of reception."""
    groups: dict[str, GroupedRejections] = {}
    for webhook in batch:
        body_sha256 = sha256(webhook.body).hexdigest()
        fingerprint = _fingerprint(webhook, body_sha256)
        before = groups.get(fingerprint)
        first, times = (before.first, before.times) if before else (webhook, 0)
        groups[fingerprint] = GroupedRejections(first, body_sha256, times + 1, webhook.received_at)
    return groups


def count_repeats(webhooks: Mapping[str, GroupedRejections], existing: set[str]) -> list[RepeatCount]:
    """Return the repeats of webhooks that have a row."""
    return [RepeatCount(name, each.times, each.last_seen_at) for name, each in webhooks.items() if name in existing]


def encrypt_new(webhooks: Mapping[str, GroupedRejections], existing: set[str], cipher: Cipher) -> list[Rejection]:
    """Return the new rows, encrypted: about 30 µs for a body of 1 kB, 10 ms for the largest."""
    return [_rejection(name, each, cipher) for name, each in webhooks.items() if name not in existing]


def _fingerprint(webhook: RejectedWebhook, body_sha256: str) -> str:
    """Return a digest of everything that a later verification depends on.

    The body alone is not enough: a forger who sends a body first would turn the genuine webhook into a repeat. The
    reason is part of it: a webhook with a wrong timestamp may come again with a right one. Only that can be released.
    """
    signed = {name: values for name, values in webhook.headers.items() if name not in _UNSIGNED}
    parts: Sequence[object] = (webhook.reason, signed, body_sha256)
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _rejection(fingerprint: str, webhook: GroupedRejections, cipher: Cipher) -> Rejection:
    first = webhook.first
    return Rejection(
        fingerprint=fingerprint,
        received_at=first.received_at,
        last_seen_at=webhook.last_seen_at,
        times_seen=webhook.times,
        reason=first.reason,
        code=first.code,
        scheme=first.scheme,
        headers=first.headers,
        body=cipher.encrypt(first.body, fingerprint),
        body_sha256=webhook.body_sha256,
        body_bytes=len(first.body),
        remote=first.remote,
        request_id=first.request_id,
    )
