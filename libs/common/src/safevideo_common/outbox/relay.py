"""The outbox relay: it publishes the oldest rows, one batch after the other, while it holds the lease.

A partition that takes no writes delays its own messages only. They are blocked, and a second task tries them again with
backoff. A broker that is slow makes batches smaller: what it acknowledged is deleted, whatever became of the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from secrets import token_hex
from time import monotonic
from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import UNKNOWN_PARTITION, BatchIncomplete, BatchProducer
from safevideo_common.broker.types import MAX_VALUE_BYTES, Message
from safevideo_common.clock import Clock
from safevideo_common.database import leases
from safevideo_common.database.engine import Database
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge, SafeVideoError, ServiceUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import Span, SpanKind, Tracer
from safevideo_common.outbox import store as outbox_store
from safevideo_common.outbox.metrics import RelayMetrics
from safevideo_common.outbox.store import OutboxDepth, OutboxMessage
from safevideo_common.resilience.backoff import Backoff, jittered
from safevideo_common.resilience.outages import Outage
from safevideo_common.service import background_task
from safevideo_common.tasks import task_group, wait_event

LEASE_NAME: Final = "outbox-relay"
LEASE_SECONDS: Final = 15.0
"""The longest pause after a relay has died, until another one continues."""
RELEASE_SECONDS: Final = 2.0

MAX_MESSAGES_PER_BATCH: Final = 500
MAX_BYTES_PER_BATCH: Final = 8 * 1024 * 1024
"""Of values and headers in memory. A dead letter may have one MiB, and as much in headers."""
BATCH_INTERVAL: Final = 0.02
"""Seconds after a batch that was not full: the messages of this time become one batch."""
IDLE: Final = Backoff(initial=0.05, maximum=1.0)
"""Between two fetches that find nothing. A message of this process wakes the relay at once."""
STANDBY_INTERVAL: Final = 1.0
OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)
BLOCKED_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)
"""Between two attempts to publish to a blocked partition."""
BLOCKED_MESSAGES: Final = 8
"""The first attempt publishes this many; each success four times as many."""
BLOCKED_POLL: Final = 1.0
"""A relay finds the partitions that another one has blocked within this time."""
MEASURE_INTERVAL: Final = 5.0


class RelayLeaseLost(Exception):
    """Another process has acquired the lease since: roll the transaction back."""


class RelayLease:
    """The lease of one relay. Our clock says when to renew it; the database's clock decides who holds it."""

    def __init__(self, database: Database, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._seconds = seconds
        self._holder = token_hex(16)
        self._held_until = 0.0

    @property
    def is_held(self) -> bool:
        """Return True if this process holds the lease, by our clock."""
        return monotonic() < self._held_until

    async def acquire(self) -> bool:
        """Acquire the lease if it is free. Raise `ServiceUnavailable`."""
        until = monotonic() + self._seconds
        async with self._database.transaction() as tx:
            is_held = await leases.acquire(tx, LEASE_NAME, self._holder, self._seconds)
        self._held_until = until if is_held else 0.0
        return is_held

    async def renew(self, tx: AsyncConnection) -> None:
        """Renew the lease. Raise `RelayLeaseLost` if another process has acquired it since."""
        until = monotonic() + self._seconds
        if not await leases.renew(tx, LEASE_NAME, self._holder, self._seconds):
            self._held_until = 0.0
            raise RelayLeaseLost
        self._held_until = until

    async def keep_renewed(self) -> None:
        """Renew the lease if a third of its time is over. An idle relay calls this."""
        if monotonic() > self._held_until - self._seconds * 2 / 3:
            async with self._database.transaction() as tx:
                await self.renew(tx)

    async def release(self) -> None:
        """Release the lease. If the database is unavailable, another relay must wait until the lease ends."""
        if self.is_held:
            with suppress(ServiceUnavailable, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS), self._database.transaction() as tx:
                    await leases.release(tx, LEASE_NAME, self._holder)
        self._held_until = 0.0


Probe = Callable[[], Awaitable[None]]
"""Raises `BrokerUnavailable` while the broker is unavailable."""


@dataclass(slots=True)
class BlockedPartition:
    """The attempts to publish to a partition that took no writes."""

    failures: int = 0
    due: float = 0.0
    limit: int = BLOCKED_MESSAGES

    def succeeded(self) -> None:
        """Try more messages at once."""
        self.failures, self.due, self.limit = 0, 0.0, min(MAX_MESSAGES_PER_BATCH, 4 * self.limit)

    def failed(self) -> None:
        """Try a few messages, later."""
        self.failures += 1
        self.due, self.limit = monotonic() + BLOCKED_BACKOFF.delay(self.failures), BLOCKED_MESSAGES


@dataclass(slots=True)
class OutboxRelay:
    """Relays the outbox. Run by one task. If it is killed or cancelled at any point, it causes duplicates at worst."""

    database: Database
    producer: BatchProducer
    probe: Probe
    """Says whether the broker is unavailable when no message of a batch was acknowledged."""
    lease: RelayLease
    wakeup: asyncio.Event
    """Set when this process has committed a message."""
    logger: FilteringBoundLogger
    metrics: RelayMetrics
    tracer: Tracer | None = None
    _empty_fetches: int = 0
    _limit: int = MAX_MESSAGES_PER_BATCH
    _blocked: dict[str, BlockedPartition] = field(default_factory=dict)
    _has_blocked: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Relay until cancelled. While broker or database are unavailable, pause without renewing the lease.

        So if only this process cannot reach the broker, another one continues.
        """
        try:
            async with task_group() as tasks:
                tasks.create_task(self._relay_pending(), name="outbox-pending")
                tasks.create_task(self._relay_blocked(), name="outbox-blocked")
        finally:
            await self.lease.release()

    async def _relay_pending(self) -> None:
        outage = Outage(self.logger, OUTAGE_BACKOFF, began="Outbox relay paused", ended="Outbox relay resumed")
        while True:
            async with outage.attempt():
                await self._run_once()

    async def _run_once(self) -> None:
        try:
            if not self.lease.is_held and not await self.lease.acquire():
                await asyncio.sleep(jittered(STANDBY_INTERVAL))
                return
            published = await self.relay()
            if not published:
                await self.lease.keep_renewed()
        except ServiceUnavailable:
            self.metrics.failed()
            raise
        except RelayLeaseLost:
            self.logger.warning("Outbox lease lost", code="LEASE_LOST")
        else:
            await self._sleep(published)

    async def relay(self) -> int:
        """Publish one batch; return how many messages were published or blocked.

        Raise `ServiceUnavailable`; `RelayLeaseLost` after duplicates.
        """
        self.wakeup.clear()
        async with self.database.read_connection() as connection:
            pending = await outbox_store.fetch_pending(connection, self._limit, MAX_BYTES_PER_BATCH)
        waiting = {each: at for each in pending.messages if (at := self._blocked_at(each.message, pending.blocked))}
        ready = [each for each in pending.messages if each not in waiting] if waiting else pending.messages
        failed = await self._publish(ready)
        self._limit = max(1, len(ready) // 2) if failed else min(MAX_MESSAGES_PER_BATCH, 2 * self._limit)
        if failed:
            waiting |= await self._stuck(ready, failed)
        await self._block(waiting)
        return len(ready) - len(failed) + len(waiting)

    async def _stuck(
        self, batch: Sequence[OutboxMessage], failed: Sequence[OutboxMessage]
    ) -> Mapping[OutboxMessage, str]:
        """Return those failed messages whose partition acknowledged nothing. Raise if the broker is unavailable."""
        gone = set(failed)
        alive = {self._partition(each.message) for each in batch if each not in gone}
        if not alive:
            await self.probe()
        self.metrics.failed()
        return {each: at for each in failed if (at := self._partition(each.message)) not in alive}

    async def _publish(self, batch: Sequence[OutboxMessage]) -> Sequence[OutboxMessage]:
        """Publish, delete what was acknowledged or is too large, and return the rest."""
        fitting = [each for each in batch if len(each.message.value) <= MAX_VALUE_BYTES]
        for each in batch:
            if len(each.message.value) > MAX_VALUE_BYTES:
                await self._discard(each)
        failures: Mapping[int, SafeVideoError] = {}
        spans = [] if self.tracer is None else list(_spans(self.tracer, fitting))
        try:
            if fitting:
                await self.producer.publish_batch([each.message for each in fitting])
        except BatchIncomplete as incomplete:
            failures = incomplete.failures
        for position, span in spans:
            span.end({"messaging.system": "kafka"}, failures[position].code if position in failures else "")
        await self._remove([each for position, each in enumerate(fitting) if position not in failures])
        too_large = {position for position, error in failures.items() if isinstance(error, PayloadTooLarge)}
        for position in sorted(too_large):  # each one alone: a refused batch may hold several
            await self._publish_or_discard(fitting[position])
        return [each for position, each in enumerate(fitting) if position in failures and position not in too_large]

    async def _publish_or_discard(self, pending: OutboxMessage) -> None:
        try:
            await self.producer.publish(pending.message)
        except PayloadTooLarge:
            await self._discard(pending)
        else:
            await self._remove([pending])

    async def _discard(self, pending: OutboxMessage) -> None:
        await self._delete([pending])
        self.metrics.dropped()
        message = pending.message
        self.logger.error(
            "Outbox message discarded", code=PayloadTooLarge.code, topic=message.topic, size=len(message.value)
        )

    async def _remove(self, published: Sequence[OutboxMessage]) -> None:
        if published:
            await self._delete(published)
            self.metrics.relayed(len(published))

    async def _delete(self, messages: Sequence[OutboxMessage]) -> None:
        async with self.database.transaction() as tx:
            await self.lease.renew(tx)
            await outbox_store.remove(tx, [each.row_id for each in messages])

    async def _block(self, waiting: Mapping[OutboxMessage, str]) -> None:
        if not waiting:
            return
        async with self.database.transaction() as tx:
            await self.lease.renew(tx)
            for partition in set(waiting.values()):
                await outbox_store.block(
                    tx, [each.row_id for each, at in waiting.items() if at == partition], partition
                )
        for partition in set(waiting.values()) - self._blocked.keys():
            self._blocked[partition] = BlockedPartition()
            self._blocked[partition].failed()
            self.logger.warning("Outbox partition blocked", code="PARTITION_BLOCKED", partition=partition)
        self._has_blocked.set()

    def _partition(self, message: Message) -> str:
        topic, number = self.producer.partition_of(message)
        return f"{topic}/{number}"

    def _blocked_at(self, message: Message, blocked: Set[str]) -> str | None:
        """Return the partition that the message must wait for, or None.

        While the partitions of its topic are unknown, it waits if any of them is blocked, and so do later ones.
        """
        if not blocked:
            return None
        partition, unknown = self._partition(message), f"{message.topic}/{UNKNOWN_PARTITION}"
        if unknown in blocked:
            return unknown
        if partition == unknown:
            return unknown if any(each.startswith(f"{message.topic}/") for each in blocked) else None
        return partition if partition in blocked else None

    async def _relay_blocked(self) -> None:
        while True:
            try:
                if self.lease.is_held:
                    await self.retry_blocked()
            except (ServiceUnavailable, RelayLeaseLost):
                await asyncio.sleep(jittered(BLOCKED_POLL))  # the other task reports it
            due = min((each.due for each in self._blocked.values()), default=inf)
            await wait_event(self._has_blocked, min(BLOCKED_POLL, max(0.0, due - monotonic())))
            self._has_blocked.clear()

    async def retry_blocked(self) -> None:
        """Publish the oldest messages of each blocked partition that is due. Raise as `relay` does."""
        before = set(self._blocked)
        async with self.database.read_connection() as connection:
            partitions = await outbox_store.blocked_partitions(connection)
            self._update_blocked(before, partitions)
            due = [each for each, state in self._blocked.items() if state.due <= monotonic()]
            batch = {
                message: partition
                for partition in due
                for message in await outbox_store.fetch_blocked(
                    connection, partition, self._blocked[partition].limit, MAX_BYTES_PER_BATCH // len(due)
                )
            }
        # The partition of a message may have become known meanwhile, and may be blocked itself. A message never goes
        # back to the unknown partition: what came before it has left that in its order, and two would swap for ever.
        waits_for = {
            each: self._blocked_at(each.message, partitions - {at}) if _is_unknown(at) else None
            for each, at in batch.items()
        }
        moved = {each: at for each, at in waits_for.items() if at and at != batch[each]}
        ready = [each for each, at in waits_for.items() if at is None]
        try:
            failed = await self._publish(ready)
        except BrokerUnavailable:
            failed = ready
        moved |= {
            each: at for each in failed if (at := self._partition(each.message)) != batch[each] and not _is_unknown(at)
        }
        await self._block(moved)
        alive = {batch[each] for each in {*ready, *moved} - {*failed}}
        for partition in due:
            self._blocked[partition].succeeded() if partition in alive else self._blocked[partition].failed()

    def _update_blocked(self, before: Set[str], partitions: Set[str]) -> None:
        for partition in before - partitions:
            del self._blocked[partition]
            self.logger.info("Outbox partition takes messages again", code="PARTITION_BLOCKED", partition=partition)
        self._blocked |= {each: BlockedPartition() for each in partitions - self._blocked.keys()}
        self.metrics.blocked(len(partitions))

    async def _sleep(self, published: int) -> None:
        if published >= min(self._limit, MAX_MESSAGES_PER_BATCH):
            return
        if published:
            self._empty_fetches = 0
            await asyncio.sleep(BATCH_INTERVAL)
            return
        self._empty_fetches += 1
        await wait_event(self.wakeup, IDLE.delay(self._empty_fetches))


def _is_unknown(partition: str) -> bool:
    return partition.endswith(f"/{UNKNOWN_PARTITION}")


def _spans(tracer: Tracer, batch: Sequence[OutboxMessage]) -> Iterator[tuple[int, Span]]:
    """Begin a span for each message whose cause is sampled; yield it with the position of the message."""
    for position, each in enumerate(batch):
        cause = dict(each.message.headers).get("traceparent", b"").decode()
        if span := tracer.follow(f"send {each.message.topic}", SpanKind.PRODUCER, cause):
            yield position, span


@asynccontextmanager
async def run_outbox_relay(
    app: web.Application, database: Database, producer: BatchProducer, probe: Probe, wakeup: asyncio.Event,
    clock: Clock, logger: FilteringBoundLogger, metrics: RelayMetrics, tracer: Tracer | None = None,
) -> AsyncIterator[None]:  # fmt: skip
    """Relay beside `app` while this process holds the lease. Set `wakeup` after a commit with a message.

    Every process measures the outbox, also while another relays: it is possible that none does.
    """
    relay = OutboxRelay(database, producer, probe, RelayLease(database), wakeup, logger, metrics, tracer)
    async with (
        background_task(app, "outbox-depth", partial(monitor_depth, database, clock, metrics)),
        background_task(app, "outbox-relay", relay.run),
    ):
        yield


async def monitor_depth(database: Database, clock: Clock, metrics: RelayMetrics) -> None:
    """Measure the outbox until cancelled."""
    while True:
        metrics.waiting(await _depth(database), clock())
        await asyncio.sleep(jittered(MEASURE_INTERVAL))


async def _depth(database: Database) -> OutboxDepth | None:
    try:
        async with database.read_connection() as connection:
            return await outbox_store.depth(connection)
    except ServiceUnavailable:
        return None
