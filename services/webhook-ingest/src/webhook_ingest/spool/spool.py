"""The spool for the event loop: append events, read them in order, remove them when Kafka acknowledged them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS, DeliveryTimeouts, size_of
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.tasks import wait_event
from webhook_ingest.spool.reporting import SpoolEvents, reason_of
from webhook_ingest.spool.segment import SpoolBatch, StoredEvent
from webhook_ingest.spool.store import CHECK_BYTES, SegmentStore
from webhook_ingest.spool.writer import SpoolWriter

MAX_BYTES: Final = 1 << 30
WRITE_SECONDS: Final = 2.0
"""Timeout of a write.

After Kafka's timeout, a webhook is answered within four seconds, unless `PRODUCE_TIMEOUT_SECONDS` is set."""

MAX_UNWRITTEN: Final = 10_000
MAX_UNWRITTEN_BYTES: Final = 64 * 1024 * 1024
RECORD_BYTES: Final = 512
"""Estimated size of a record beyond key and value, until it is written."""


class SpoolAccounting:
    """The counts of events by key, in the spool and on their way to the disk, and the bounds on both.

    Events that were written and cannot be read any more stay counted until `reset`, when the spool is empty.
    """

    def __init__(self, max_bytes: int) -> None:
        self.keys: dict[bytes, int] = {}
        self.events = 0
        """Events on disk that are not delivered."""
        self.total = 0
        """Events that were ever reserved or adopted."""
        self._max_bytes = max_bytes
        self.unwritten = 0
        """Events on their way to the disk."""
        self._unwritten_bytes = 0

    def reserve(self, message: Message, disk_bytes: int) -> None:
        """Count an event before it is written. Raises `BrokerUnavailable` if the spool or its queue is full."""
        size = size_of(message) + RECORD_BYTES
        self.check_room(disk_bytes + size)
        if self.unwritten >= MAX_UNWRITTEN or self._unwritten_bytes + size > MAX_UNWRITTEN_BYTES:
            raise BrokerUnavailable("Too many messages await the disk.", retry_after=RETRY_AFTER_SECONDS)
        self.unwritten += 1
        self._unwritten_bytes += size
        self.total += 1
        self.keys[message.key] = self.keys.get(message.key, 0) + 1

    def check_room(self, disk_bytes: int) -> None:
        """Raise `BrokerUnavailable` if the spool, with `disk_bytes` on disk, would be too large."""
        if disk_bytes + self._unwritten_bytes > self._max_bytes:
            raise BrokerUnavailable("Kafka is unavailable and the spool is full.", retry_after=RETRY_AFTER_SECONDS)

    def written(self, messages: Sequence[Message]) -> None:
        """Count reserved events as events on disk."""
        self._leave_queue(messages)
        self.events += len(messages)

    def release(self, messages: Sequence[Message]) -> None:
        """Undo the reservation of events that the disk did not take."""
        self._leave_queue(messages)
        self._forget(messages)

    def adopted(self, events_by_key: Mapping[bytes, int]) -> None:
        """Count the events of a dead process."""
        events = sum(events_by_key.values())
        self.events += events
        self.total += events
        for key, number in events_by_key.items():
            self.keys[key] = self.keys.get(key, 0) + number

    def removed(self, messages: Sequence[Message]) -> None:
        """Stop counting events that were delivered."""
        self._forget(messages)
        self.events -= len(messages)

    def reset(self) -> None:
        """Count nothing: no event is in the spool or on its way."""
        self.events = 0
        self.keys.clear()

    def _leave_queue(self, messages: Sequence[Message]) -> None:
        self.unwritten -= len(messages)
        self._unwritten_bytes -= sum(size_of(message) + RECORD_BYTES for message in messages)

    def _forget(self, messages: Iterable[Message]) -> None:
        keys = self.keys
        for message in messages:
            if (rest := keys.get(message.key, 1) - 1) > 0:
                keys[message.key] = rest
            else:
                keys.pop(message.key, None)


class Spool:
    """A durable queue of events. For the event loop that opened it; guarantees: `webhook_ingest.spool`."""

    def __init__(
        self, store: SegmentStore, accounting: SpoolAccounting, timeouts: DeliveryTimeouts, observer: SpoolEvents
    ) -> None:
        """Start the writer's thread, which `close` ends."""
        self._store = store
        self._accounting = accounting
        self._timeouts = timeouts
        self._observer = observer
        self._writer = SpoolWriter(store, self._on_written, self._on_rejected)
        self._undelivered: list[StoredEvent] = []  # read, and neither delivered nor deferred, in order
        self._deferred: dict[TopicPartition, int] = {}
        self._deferred_since: dict[TopicPartition, int] = {}  # Unix milliseconds of the oldest one
        self._reading: asyncio.Future[SpoolBatch] | None = None
        self._wakeup = asyncio.Event()
        self._directories: frozenset[str] = frozenset()

    @property
    def directories(self) -> frozenset[str]:
        """The names of the directories whose events are in `events`."""
        return self._directories

    @property
    def keys(self) -> Mapping[bytes, int]:
        """The keys that have events in the spool or on their way there; always the same object."""
        return self._accounting.keys

    @property
    def events(self) -> int:
        """The number of events in the spool."""
        return self._accounting.events

    @property
    def deferred(self) -> Mapping[TopicPartition, int]:
        """The number of events that wait for each partition that takes no messages; always the same object."""
        return self._deferred

    @property
    def unread(self) -> int:
        """The number of events on disk that wait for no partition."""
        return self.events - sum(self._deferred.values())

    @property
    def is_idle(self) -> bool:
        """True if each event waits for its partition, and none is on its way to the disk."""
        return not self.unread and not self._accounting.unwritten

    @property
    def prefetched(self) -> int:
        """The number of events that were read and not delivered."""
        return len(self._undelivered)

    @property
    def disk_bytes(self) -> int:
        """The size of the files on disk."""
        return self._store.disk_bytes

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest event that is known; 0 if there is none."""
        times = [stored.event.at_ms for stored in self._undelivered[:1]] + [*self._deferred_since.values()]
        return max(0.0, time.time() - min(times) / 1000) if times else 0.0

    def append(self, message: Message) -> "asyncio.Future[int]":
        """Return the future of the event's number, done once the event is on disk. From now on its key is in `keys`.

        *Guarantee*: events are read in the order of `append`.
        *Errors*: the future has `BrokerUnavailable` if the spool is full, or if the disk fails or is too slow.
        *Not guaranteed*: after a timeout the event may be in the spool all the same.
        """
        try:
            self._accounting.reserve(message, self._store.disk_bytes)
        except BrokerUnavailable as error:
            self._observer.rejected(1, "FULL")
            rejected: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            rejected.set_exception(error)
            return rejected
        written = self._writer.append(message)
        self._timeouts.watch(written)
        return written

    async def next_batch(self, limit: int) -> Sequence[StoredEvent]:
        """Return up to `limit` undelivered events, none if the spool is empty. Read as many more ahead.

        Raises `OSError` if they cannot be read.
        """
        missing = 2 * limit - len(self._undelivered)
        if self._reading is None and missing > 0 and self.unread > len(self._undelivered):
            self._reading = self._writer.run(lambda store: store.read_batch(missing))
            self._reading.add_done_callback(self._on_read)
        if self._reading is not None and not self._undelivered:
            # Shielded: if this task is cancelled, the events that were read are kept all the same, in order.
            reading = self._reading
            await asyncio.shield(reading)
            self._on_read(reading)  # a finished read does not suspend this task, so its callback may still be due
        return self._undelivered[:limit]

    async def next_deferred(self, partition: TopicPartition, limit: int) -> Sequence[StoredEvent]:
        """Return up to `limit` events that wait for `partition`, in order. Raises `OSError` if they cannot be read."""
        found = await self._writer.run(lambda store: store.read_deferred(partition, limit))
        for damaged in found.corrupt:
            self._observer.corrupt(damaged)
        if found.events:
            self._deferred_since[partition] = found.events[0].event.at_ms
        else:  # all that was left is unreadable
            self._forget_deferred(partition, self._deferred.get(partition, 0))
        return found.events

    def defer(
        self, waiting: Sequence[StoredEvent], partition: TopicPartition, source: TopicPartition | None = None
    ) -> None:
        """Let events wait for `partition`, on disk. They come from `next_batch`, or they waited for `source`."""
        self._take(waiting, source)
        self._deferred[partition] = self._deferred.get(partition, 0) + len(waiting)
        self._deferred_since.setdefault(partition, waiting[0].event.at_ms)
        _ = self._writer.run(lambda store: store.defer(waiting, partition))

    def mark_delivered(self, delivered: Sequence[StoredEvent], source: TopicPartition | None = None) -> None:
        """Remove events that need no further delivery. After a crash some are delivered again.

        They come from `next_batch`, or they waited for `source`.
        """
        self._take(delivered, source)
        self._accounting.removed([stored.event.message for stored in delivered])
        self._observer.delivered(len(delivered))
        total = self._accounting.total
        cleaned = self._writer.run(lambda store: store.mark_delivered(delivered))
        cleaned.add_done_callback(lambda done: self._on_cleaned(done, total))

    def _take(self, events: Sequence[StoredEvent], source: TopicPartition | None) -> None:
        if source is None:
            gone = set(events)
            self._undelivered = [stored for stored in self._undelivered if stored not in gone]
        else:
            self._forget_deferred(source, len(events))

    def _forget_deferred(self, partition: TopicPartition, number: int) -> None:
        if (rest := self._deferred.get(partition, 0) - number) > 0:
            self._deferred[partition] = rest
        else:
            self._deferred.pop(partition, None)
            self._deferred_since.pop(partition, None)

    def reject(self, stored: StoredEvent) -> None:
        """Copy an event that Kafka will never accept to `corrupt/`. The caller still marks it as delivered."""
        self._observer.undeliverable(stored)
        _ = self._writer.run(lambda _store: stored.segment.save_rejected(stored))

    async def adopt(self) -> None:
        """Adopt what dead processes left. It is read before all events that were not read yet.

        An error is reported and loses nothing: the next call tries again.
        """
        try:
            self._observer.locked(await self._writer.run(SegmentStore.lock))
            while await asyncio.shield(self._adopt_segment()) is not None:
                pass
        except OSError as error:
            self._observer.failed(reason_of(error))

    async def check(self) -> None:
        """Return if an event could be appended now. Raises `BrokerUnavailable`."""
        self._accounting.check_room(self._store.disk_bytes + CHECK_BYTES)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._writer.run(SegmentStore.check)
        except (OSError, TimeoutError) as error:
            raise BrokerUnavailable("The disk is unavailable.", retry_after=RETRY_AFTER_SECONDS) from error

    def wake(self) -> None:
        """End a running or the next `wait`."""
        self._wakeup.set()

    async def wait(self, seconds: float) -> None:
        """Return when events came in or `wake` was called, at the latest after `seconds`."""
        await wait_event(self._wakeup, seconds)
        self._wakeup.clear()

    async def close(self) -> None:
        """Write what is queued, then close the files. Undelivered events stay on disk."""
        _ = self._writer.run(SegmentStore.close)
        await self._writer.close()

    def _on_written(self, messages: Sequence[Message]) -> None:
        self._accounting.written(messages)
        self._directories = self._store.directories
        self._observer.written(len(messages))
        self.wake()

    def _on_rejected(self, messages: Sequence[Message], error: Exception) -> None:
        self._accounting.release(messages)
        self._observer.rejected(len(messages), reason_of(error))
        self.wake()

    def _on_read(self, reading: "asyncio.Future[SpoolBatch]") -> None:
        if self._reading is not reading:
            return
        self._reading = None
        if not reading.exception():
            self._undelivered += reading.result().events
            for damaged in reading.result().corrupt:
                self._observer.corrupt(damaged)

    def _adopt_segment(self) -> "asyncio.Future[Mapping[bytes, int] | None]":
        adopting = self._writer.run(SegmentStore.adopt)
        adopting.add_done_callback(self._on_adopted)  # also if the task that waits for it is cancelled
        return adopting

    def _on_adopted(self, adopting: "asyncio.Future[Mapping[bytes, int] | None]") -> None:
        if adopting.cancelled() or adopting.exception():
            return
        if events_by_key := adopting.result():
            self._accounting.adopted(events_by_key)
            self._observer.adopted(sum(events_by_key.values()))
            self.wake()
        self._directories = self._store.directories

    def _on_cleaned(self, cleaned: "asyncio.Future[bool]", total: int) -> None:
        """Reset the counts if the store is empty and nothing came in since: that removes unreadable events too."""
        if not cleaned.exception() and cleaned.result() and total == self._accounting.total and not self._undelivered:
            self._accounting.reset()


@asynccontextmanager
async def open_spool(root: Path, observer: SpoolEvents, max_bytes: int = MAX_BYTES) -> AsyncIterator[Spool]:
    """Open the spool in `root` and adopt what dead processes left there. `max_bytes` bounds the files of this process.

    Opening never fails. If the disk is unusable, `append` raises until the disk works again.
    """
    with closing(DeliveryTimeouts(WRITE_SECONDS)) as timeouts:
        spool = Spool(SegmentStore(root), SpoolAccounting(max_bytes), timeouts, observer)
        try:
            await spool.adopt()
            yield spool
        finally:
            await spool.close()
