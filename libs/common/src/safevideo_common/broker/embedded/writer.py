"""The thread that writes: whatever waits when it comes round is one transaction, and one fsync."""

import asyncio
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS, InFlightLimit
from safevideo_common.broker.embedded import (
    storage as embedded_storage,
)
from safevideo_common.broker.embedded.storage import Append
from safevideo_common.broker.types import MAX_RECORD_BYTES, TopicPartition, TopicState
from safevideo_common.errors import BrokerUnavailable, StartupError
from safevideo_common.file_lock import file_lock

Job = Callable[[sqlite3.Connection], None]
WriteBatch = Sequence[Append]
"""Records that are written together or not at all."""

Moved = Mapping[int, int]
"""End offset by partition id."""

NO_RECORDS: Final[Moved] = {}


class _Waiting(NamedTuple):
    work: WriteBatch | Job
    done: "asyncio.Future[Any]"  # the first one's offset for a Round, None for a Job


class Writer:
    """Commits in groups. Its methods are for the event loop that made it; `close` ends the thread."""

    def __init__(self, connection: sqlite3.Connection, on_appended: Callable[[Moved], None]) -> None:
        """`on_appended` is called on the event loop after each commit, with the ends that moved."""
        self._connection = connection
        self._on_appended = on_appended
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._backlog = InFlightLimit()  # what bounds the queue
        self._ends: dict[int, int] = {}
        self._newest_ms = embedded_storage.newest_timestamp(connection)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="embedded-log-writer", daemon=True)
        self._thread.start()

    def append(self, appends: WriteBatch) -> "asyncio.Future[int]":
        """The offset of the first, once all are fsynced; `BrokerUnavailable` when they could not be written.

        Raises `BrokerUnavailable` when too much waits already.
        """
        self._backlog.admit(_size(appends), len(appends))
        return self._enqueue(appends)

    def run(self, job: Job) -> "asyncio.Future[None]":
        """Done once `job` is committed. It shares its transaction with others, whose failure is its own."""
        return self._enqueue(job)

    async def close(self) -> None:
        """Write what waits, then end the thread."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _enqueue(self, work: WriteBatch | Job) -> "asyncio.Future[Any]":
        if self._closed:
            raise BrokerUnavailable("The event log is closed.", retry_after=RETRY_AFTER_SECONDS)
        done: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Waiting(work, done))
        return done

    def _run(self) -> None:
        while group := self._next_group():
            try:
                offsets, moved = self._commit([each.work for each in group])
            except Exception as error:  # noqa: BLE001 - a full disk, say: all of them hear it and the thread lives on
                self._loop.call_soon_threadsafe(self._refuse, group, error)
            else:
                self._loop.call_soon_threadsafe(self._acknowledge, group, offsets, moved)

    def _next_group(self) -> list[_Waiting]:
        """All that waits, and at least one; empty when the log is closed."""
        group = []
        following = self._queue.get()
        try:
            while following is not None:
                group.append(following)
                following = self._queue.get_nowait()
            self._queue.put(None)  # closed: so the next round finds it too
        except Empty:
            pass
        return group

    def _commit(self, works: Sequence[WriteBatch | Job]) -> tuple[list[int], Moved]:
        appends = [append for work in works if not callable(work) for append in work]
        jobs = [work for work in works if callable(work)]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            offsets, moved = self._append(appends) if appends else ([], NO_RECORDS)
            for job in jobs:
                job(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        self._ends.update(moved)
        return offsets, moved

    def _append(self, appends: Sequence[Append]) -> tuple[list[int], Moved]:
        if any(each.partition_id not in self._ends for each in appends):  # a topic was created
            self._ends = {stored.id: stored.end for stored in embedded_storage.partitions(self._connection)}
        self._newest_ms = max(self._newest_ms, time.time_ns() // 1_000_000)
        return embedded_storage.append(self._connection, self._ends, appends, self._newest_ms)

    def _acknowledge(self, group: Sequence[_Waiting], offsets: Sequence[int], moved: Moved) -> None:
        self._release(group)
        first = 0
        for work, done in group:
            result = None if callable(work) else offsets[first]
            first += 0 if callable(work) else len(work)
            if not done.done():
                done.set_result(result)
        if moved:
            self._on_appended(moved)

    def _refuse(self, group: Sequence[_Waiting], error: Exception) -> None:
        self._release(group)
        for _, done in group:
            if not done.done():
                refusal = BrokerUnavailable(
                    "The event log's file could not be written.", retry_after=RETRY_AFTER_SECONDS
                )
                refusal.__cause__ = error
                done.set_exception(refusal)

    def _release(self, group: Sequence[_Waiting]) -> None:
        for work, _ in group:
            if not callable(work):
                self._backlog.release(len(work), _size(work))


def _size(appends: WriteBatch) -> int:
    return sum(append.size for append in appends)


# What the event loop knows without asking the file: topics, ends, committed offsets, and when more has come.


class MetadataCache:
    """Mirrors what is committed to the file, since one process writes it. For one event loop."""

    def __init__(self) -> None:
        self.ends: dict[TopicPartition, int] = {}
        self.starts: dict[TopicPartition, int] = {}
        self.ids: dict[TopicPartition, int] = {}
        self.retention_ms: dict[TopicPartition, int] = {}
        self._by_topic: defaultdict[str, list[TopicPartition]] = defaultdict(list)
        self._by_id: dict[int, TopicPartition] = {}
        self._committed: defaultdict[str, dict[TopicPartition, int]] = defaultdict(dict)
        self._news = asyncio.Event()

    def load(self, connection: sqlite3.Connection) -> None:
        """Take everything from the file, before anything is written to it."""
        self.add(embedded_storage.partitions(connection))
        for group, partition_id, offset in embedded_storage.committed(connection):
            self._committed[group][self._by_id[partition_id]] = offset

    def add(self, stored: Iterable[embedded_storage.PartitionRow]) -> None:
        """Take those partitions that are new."""
        for each in stored:
            if each.partition not in self.ids:
                self.starts[each.partition] = each.start
                self.ends[each.partition] = each.end
                self.ids[each.partition] = each.id
                self.retention_ms[each.partition] = each.retention_ms
                self._by_id[each.id] = each.partition
                self._by_topic[each.partition.topic].append(each.partition)

    def partitions_of(self, topic: str) -> Sequence[TopicPartition]:
        """In order; none while the topic was not created."""
        return self._by_topic.get(topic, ())

    def state_of(self, topic: str) -> TopicState | None:
        """None when there is none."""
        if not (partitions := self.partitions_of(topic)):
            return None
        retention_ms = self.retention_ms[partitions[0]]
        return TopicState(topic, len(partitions), 1, retention_ms, MAX_RECORD_BYTES, is_compacted=False)

    def existing(self, topic: str) -> Sequence[TopicPartition]:
        """The same, but raises `BrokerUnavailable` when there are none."""
        if not (partitions := self.partitions_of(topic)):
            raise BrokerUnavailable(f"Topic {topic} does not exist.", retry_after=RETRY_AFTER_SECONDS)
        return partitions

    def kept(self, partition: TopicPartition) -> embedded_storage.FetchRange:
        """All records of a partition. Those that retention is about to delete are not among them."""
        return embedded_storage.FetchRange(partition, self.ids[partition], self.starts[partition], self.ends[partition])

    def appended(self, moved: Mapping[int, int]) -> None:
        """Records were committed; whoever waits for news goes on."""
        for partition_id, end in moved.items():
            self.ends[self._by_id[partition_id]] = end
        self.announce()

    def announce(self) -> None:
        """Wake whoever waits: there are records, or partitions have changed hands."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Wait for the next announcement."""
        await self._news.wait()

    def committed(self, group: str, partition: TopicPartition) -> int:
        """The group's next offset: the oldest record that is kept when it has committed none, or one long gone."""
        return max(self._committed[group].get(partition, 0), self.starts[partition])

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Mirror what was committed to the file: steps forward only."""
        known = self._committed[group]
        for partition, offset in offsets.items():
            known[partition] = max(offset, known.get(partition, 0))


# The log's file as the event loop sees it: one thread that writes, one that reads.


Answer = TypeVar("Answer")

ANSWER_SECONDS: Final = 5.0
"""Of a disk that is well, plus a checkpoint of the write-ahead log."""


class SqliteStorage:
    """Asks and writes with a deadline; whatever goes wrong is `BrokerUnavailable`."""

    def __init__(self, writer: Writer, connection: sqlite3.Connection, reader: ThreadPoolExecutor) -> None:
        self.writer = writer
        self._connection = connection
        self._reader = reader

    async def ask(self, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """The answer to `question`, which runs on the reader thread and sees whatever was acknowledged before."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._reader, question, self._connection)
        # A RuntimeError comes from an executor that was shut down: the log was closed under its user.
        except (sqlite3.Error, TimeoutError, RuntimeError) as error:
            raise BrokerUnavailable("The event log's file did not answer.", retry_after=RETRY_AFTER_SECONDS) from error

    async def write(self, job: Job) -> None:
        """Return once `job` is committed. After the deadline the outcome is unknown."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.writer.run(job)
        except TimeoutError as error:
            raise BrokerUnavailable("The event log's file took too long.", retry_after=RETRY_AFTER_SECONDS) from error


@asynccontextmanager
async def open_storage(folder: Path, catalogue: MetadataCache) -> AsyncIterator[SqliteStorage]:
    """The file in `folder`, made if need be, with `catalogue` filled from it.

    Raises `StartupError` when another process has it. Leaving writes what waits and closes everything.
    """
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs at a start
    path = folder / "events.sqlite"

    def refusal(pid: str) -> StartupError:
        return StartupError(f"The event log in {folder} is open in process {pid or 'unknown'}: stop that first.")

    with file_lock(folder / "events.lock", refusal), closing(embedded_storage.connect(path)) as writing:
        embedded_storage.create_tables(writing)
        catalogue.load(writing)
        with (
            closing(embedded_storage.connect(path)) as reading,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-log-reader") as reader,
        ):
            writer = Writer(writing, catalogue.appended)
            try:
                yield SqliteStorage(writer, reading, reader)
            finally:
                await writer.close()
