"""The spool as the event loop sees it: events go in, are given out in order, and are let go when the log has them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS, DeliveryTimeouts, size_of
from safevideo_common.broker.types import Message
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from webhook_ingest.spool.reporting import SpoolEvents, SpoolMetrics, reason_of
from webhook_ingest.spool.segment import StoredEvent, set_aside
from webhook_ingest.spool.store import CHECK_BYTES, SegmentStore, SpoolBatch
from webhook_ingest.spool.writer import Entry, SpoolWriter

# What is in the spool and what is on its way there, counted on the event loop.


MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
RECORD_BYTES: Final = 512
"""What a record has beyond key and value, about, until it is written and weighed."""


class SpoolAccounting:
    """`keys` has each key of which anything is in the spool or on its way: the number of its events.

    What was written and turns out to be unreadable is never counted out; `settle` mends that when the spool is empty.
    """

    def __init__(self, max_bytes: int) -> None:
        self.keys: dict[bytes, int] = {}
        self.events = 0
        """On disk and not delivered."""
        self.entered = 0
        """Events that were ever counted in."""
        self._max_bytes = max_bytes
        self._waiting = 0
        self._waiting_bytes = 0

    def enter(self, message: Message, disk_bytes: int) -> None:
        """It is to be written. Raises `BrokerUnavailable` when the spool would grow too large, or too much waits."""
        size = size_of(message) + RECORD_BYTES
        self.check_room(disk_bytes + size)
        if self._waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise BrokerUnavailable("Too many messages await the disk.", retry_after=RETRY_AFTER_SECONDS)
        self._waiting += 1
        self._waiting_bytes += size
        self.entered += 1
        self.keys[message.key] = self.keys.get(message.key, 0) + 1

    def check_room(self, disk_bytes: int) -> None:
        """Raises `BrokerUnavailable` when the spool, with `disk_bytes` on disk, would be too large."""
        if disk_bytes + self._waiting_bytes > self._max_bytes:
            raise BrokerUnavailable("The event log is away and the spool is full.", retry_after=RETRY_AFTER_SECONDS)

    def written(self, messages: Iterable[Message]) -> None:
        """They wait no longer: they are on disk."""
        self.events += self._waited(messages)

    def refused(self, messages: Iterable[Message]) -> None:
        """They wait no longer: the disk did not take them."""
        messages = list(messages)
        self._waited(messages)
        self._forget(messages)

    def adopted(self, keys: Mapping[bytes, int]) -> None:
        """These lie on disk already."""
        found = sum(keys.values())
        self.events += found
        self.entered += found
        for key, events in keys.items():
            self.keys[key] = self.keys.get(key, 0) + events

    def left(self, messages: Iterable[Message]) -> None:
        """The log has them."""
        self.events -= self._forget(messages)

    def settle(self) -> None:
        """Nothing is in the spool or on its way."""
        self.events = 0
        self.keys.clear()

    def _waited(self, messages: Iterable[Message]) -> int:
        sizes = [size_of(message) + RECORD_BYTES for message in messages]
        self._waiting -= len(sizes)
        self._waiting_bytes -= sum(sizes)
        return len(sizes)

    def _forget(self, messages: Iterable[Message]) -> int:
        forgotten = 0
        keys = self.keys
        for message in messages:
            forgotten += 1
            if (others := keys.get(message.key, 1) - 1) > 0:
                keys[message.key] = others
            else:
                keys.pop(message.key, None)
        return forgotten


# What comes into the spool: counted in before it is written, and answered when it is.


class SpoolQueue:
    """For the event loop that made it."""

    def __init__(
        self, accounts: SpoolAccounting, deadlines: DeliveryTimeouts, reports: SpoolEvents, stirred: asyncio.Event
    ) -> None:
        self._accounts = accounts
        self._deadlines = deadlines
        self._reports = reports
        self._stirred = stirred
        self._loop = asyncio.get_running_loop()

    def enter(self, message: Message, disk_bytes: int) -> Entry:
        """Queue an event; its future ends within the deadline. Raise `BrokerUnavailable` when there is no room."""
        try:
            self._accounts.enter(message, disk_bytes)
        except BrokerUnavailable:
            self._reports.refused(1, "FULL")
            raise
        entry = Entry(message, self._loop.create_future())
        self._deadlines.watch(entry.done)
        return entry

    def written(self, entries: Sequence[Entry], number: int) -> None:
        """They are on disk, numbered from `number` on."""
        self._accounts.written(entry.message for entry in entries)
        self._reports.written(len(entries))
        self._stirred.set()
        for place, (_, done) in enumerate(entries):
            if not done.done():
                done.set_result(number + place)

    def refused(self, entries: Sequence[Entry], error: Exception) -> None:
        """The disk did not take them."""
        self._accounts.refused([entry.message for entry in entries])
        self._reports.refused(len(entries), reason_of(error))
        for _, done in entries:
            if not done.done():
                refusal = BrokerUnavailable(
                    "The event log is away and so is the disk.", retry_after=RETRY_AFTER_SECONDS
                )
                refusal.__cause__ = error
                done.set_exception(refusal)


MAX_BYTES: Final = 1 << 30
WRITE_SECONDS: Final = 2.0
"""How long an event waits for the disk. With the log's deadline before it, an answer takes four seconds at most, unless
`PRODUCE_SECONDS` says otherwise."""


class Spool:
    """For the event loop that opened it."""

    def __init__(
        self, files: SegmentStore, accounts: SpoolAccounting, deadlines: DeliveryTimeouts, reports: SpoolEvents
    ) -> None:
        """Starts the thread, which `close` ends."""
        self.reports = reports
        self.held: list[StoredEvent] = []
        """What was given out and is not delivered yet, in order."""
        self.stirred = asyncio.Event()
        """Set whenever there may be something to do; cleared by the one who does it."""
        self._files = files
        self._accounts = accounts
        self._intake = SpoolQueue(accounts, deadlines, reports, self.stirred)
        self._scribe = SpoolWriter(files, self._intake.written, self._intake.refused)
        self._taking: asyncio.Future[SpoolBatch] | None = None

    @property
    def keys(self) -> Mapping[bytes, int]:
        """The keys of which anything is in the spool or on its way there; always the same object."""
        return self._accounts.keys

    @property
    def events(self) -> int:
        """How many are in the spool."""
        return self._accounts.events

    @property
    def disk_bytes(self) -> int:
        """What its files take on disk."""
        return self._files.disk_bytes

    @property
    def oldest_seconds(self) -> float:
        """Age of the event that is delivered next; 0 when there is none."""
        return max(0.0, time.time() - self.held[0].kept.at_ms / 1000) if self.held else 0.0

    def keep(self, message: Message) -> "asyncio.Future[int]":
        """Its number once it is on disk. From now on its key is in `keys`; what is kept later is given out later.

        The future has a `BrokerUnavailable` when the spool is full, the disk fails, or takes too long; in the last case
        the event may be kept all the same.
        """
        try:
            entry = self._intake.enter(message, self._files.disk_bytes)
        except BrokerUnavailable as refusal:
            return _refused(refusal)
        self._scribe.append(entry)
        return entry.done

    async def next(self, most: int) -> Sequence[StoredEvent]:
        """The first of `held`, `most` of them or fewer; none when the spool is empty. As many again are read meanwhile.

        Raises `OSError` when they cannot be read.
        """
        wanted = 2 * most - len(self.held)
        if self._taking is None and wanted > 0 and self.events > len(self.held):
            self._taking = self._scribe.run(lambda files: files.take(wanted))
            self._taking.add_done_callback(self._taken)
        if self._taking is not None and not self.held:
            # Whoever waits may be cancelled: what was given out comes into `held` all the same, and in order.
            await asyncio.shield(self._taking)
        return self.held[:most]

    def deliver(self, delivered: Sequence[StoredEvent]) -> None:
        """The log has these, which are in `held`. Their files are removed behind; after a crash some come again."""
        gone = set(delivered)
        self.held = [placed for placed in self.held if placed not in gone]
        self._accounts.left(placed.kept.message for placed in delivered)
        self.reports.delivered(len(delivered))
        entered = self._accounts.entered
        tidied = self._scribe.run(lambda files: files.deliver(delivered))
        tidied.add_done_callback(lambda done: self._tidied(done, entered))

    def give_up(self, placed: StoredEvent) -> None:
        """The log will never take this one: copy it to the `corrupt` folder. It is still to be counted as delivered."""
        self.reports.undeliverable(placed)
        _ = self._scribe.run(lambda files: set_aside(placed, files.root))

    async def adopt(self) -> None:
        """Make ours what dead processes left. It is given out before all that is not in `held` yet.

        A failure is reported and costs nothing: whoever looks next finds it.
        """
        try:
            self.reports.claimed(await self._scribe.run(SegmentStore.claim))
            while await asyncio.shield(self._admit()) is not None:
                pass
        except OSError as error:
            self.reports.unusable(reason_of(error))

    def _admit(self) -> "asyncio.Future[Mapping[bytes, int] | None]":
        admitted = self._scribe.run(SegmentStore.admit)
        admitted.add_done_callback(self._admitted)  # counted also when whoever waits for it is cancelled
        return admitted

    async def check(self) -> None:
        """Return when an event could be kept now. Raises `BrokerUnavailable`."""
        self._accounts.check_room(self._files.disk_bytes + CHECK_BYTES)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._scribe.run(SegmentStore.check)
        except (OSError, TimeoutError) as error:
            raise BrokerUnavailable("The disk takes nothing.", retry_after=RETRY_AFTER_SECONDS) from error

    async def close(self) -> None:
        """Write what waits and let the files go; what is not delivered stays on disk."""
        _ = self._scribe.run(SegmentStore.close)
        await self._scribe.close()

    def _taken(self, taking: "asyncio.Future[SpoolBatch]") -> None:
        self._taking = None
        if not taking.exception():
            self.held += taking.result().placed
            for lost in taking.result().lost:
                self.reports.lost(lost)

    def _admitted(self, admitted: "asyncio.Future[Mapping[bytes, int] | None]") -> None:
        if not admitted.cancelled() and not admitted.exception() and (keys := admitted.result()):
            self._accounts.adopted(keys)
            self.reports.adopted(sum(keys.values()))
            self.stirred.set()

    def _tidied(self, tidied: "asyncio.Future[bool]", entered: int) -> None:
        """Nothing is left, and nothing came in since: then what was lost on the way is counted out too."""
        if not tidied.exception() and tidied.result() and entered == self._accounts.entered and not self.held:
            self._accounts.settle()


@asynccontextmanager
async def open_spool(
    root: Path, log: FilteringBoundLogger, metrics: SpoolMetrics, max_bytes: int = MAX_BYTES
) -> AsyncIterator[Spool]:
    """The spool in `root`, with what dead processes left there. Entering succeeds when the disk is of no use:

    keeping is refused then, until it is. `max_bytes` bounds the files of this process.
    """
    with closing(DeliveryTimeouts(WRITE_SECONDS)) as deadlines:
        spool = Spool(SegmentStore(root), SpoolAccounting(max_bytes), deadlines, SpoolEvents(log, metrics))
        try:
            await spool.adopt()
            yield spool
        finally:
            await spool.close()


def _refused(refusal: BrokerUnavailable) -> "asyncio.Future[int]":
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done.set_exception(refusal)
    return done
