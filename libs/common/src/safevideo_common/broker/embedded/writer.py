"""The threads of the embedded broker: one writes, one reads.

Group commit: everything that waits when the writer thread is free becomes one transaction and one fsync.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS, InFlightLimit
from safevideo_common.broker.embedded import storage
from safevideo_common.broker.embedded.metadata import MetadataCache
from safevideo_common.broker.embedded.storage import Append
from safevideo_common.errors import BrokerUnavailable, StartupError
from safevideo_common.file_lock import file_lock

ANSWER_SECONDS: Final = 5.0
"""Enough for a healthy disk and a checkpoint of the write-ahead log."""

Result = TypeVar("Result")
WriteTask = Callable[[sqlite3.Connection], None]
WriteBatch = Sequence[Append]
"""Records that are written together or not at all."""
EndOffsets = Mapping[int, int]
"""End offset by partition id."""


class SqliteStorage:
    """The file as the event loop uses it. Each failure is a `BrokerUnavailable`."""

    def __init__(self, writer: "GroupCommitWriter", connection: sqlite3.Connection, reader: ThreadPoolExecutor) -> None:
        self._writer = writer
        self._connection = connection
        self._reader = reader

    async def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `query` on the reader thread, and return its result. It sees everything that was acknowledged before."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._reader, query, self._connection)
        # A RuntimeError comes from an executor that was shut down: the broker was closed while it was in use.
        except (sqlite3.Error, TimeoutError, RuntimeError) as error:
            raise BrokerUnavailable("The broker's file did not answer.", retry_after=RETRY_AFTER_SECONDS) from error

    async def write(self, task: WriteTask) -> None:
        """Return once `task` is committed. After the deadline the outcome is unknown."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._writer.run(task)
        except TimeoutError as error:
            raise BrokerUnavailable("The broker's file took too long.", retry_after=RETRY_AFTER_SECONDS) from error

    def append(self, batch: WriteBatch) -> "asyncio.Future[int]":
        """Append records, without a deadline. The result is the offset of the first one, once all are fsynced.

        The future fails with `BrokerUnavailable` if they could not be written. Raises `BrokerUnavailable` if too many
        records wait already.
        """
        return self._writer.append(batch)


@asynccontextmanager
async def open_storage(folder: Path, metadata: MetadataCache) -> AsyncIterator[SqliteStorage]:
    """Open or create the file in `folder`, and load `metadata` from it.

    Raises `StartupError` if another process has opened it. Closing writes everything that waits.
    """
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs at a start
    path = folder / "events.sqlite"

    def locked(pid: str) -> StartupError:
        return StartupError(
            f"The embedded broker in {folder} is open in process {pid or 'unknown'}. Stop that process first."
        )

    with file_lock(folder / "events.lock", locked), closing(storage.connect(path)) as writing:
        storage.create_tables(writing)
        metadata.load(storage.partitions(writing), storage.committed_offsets(writing))
        with (
            closing(storage.connect(path)) as reading,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-broker-reader") as reader,
        ):
            writer = GroupCommitWriter(writing, metadata.raise_high_watermarks)
            try:
                yield SqliteStorage(writer, reading, reader)
            finally:
                await writer.close()


class _Pending(NamedTuple):
    work: WriteBatch | WriteTask
    done: "asyncio.Future[Any]"  # the offset of the first record of a batch, None for a task


class GroupCommitWriter:
    """The writer thread. Its methods are for the event loop that created it; `close` ends the thread."""

    def __init__(self, connection: sqlite3.Connection, on_append: Callable[[EndOffsets], None]) -> None:
        """`on_append` is called on the event loop after each commit, with the end offsets that changed."""
        self._connection = connection
        self._on_append = on_append
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._limit = InFlightLimit()  # bounds the queue
        self._ends: dict[int, int] = {}
        self._newest_ms = storage.newest_timestamp(connection)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="embedded-broker-writer", daemon=True)
        self._thread.start()

    def append(self, batch: WriteBatch) -> "asyncio.Future[int]":
        """See `SqliteStorage.append`."""
        self._limit.acquire(_size(batch), len(batch))
        return self._enqueue(batch)

    def run(self, task: WriteTask) -> "asyncio.Future[None]":
        """Run `task` inside a transaction, together with other work. If any of that fails, all of it fails."""
        return self._enqueue(task)

    async def close(self) -> None:
        """Write everything that waits, then end the thread."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _enqueue(self, work: WriteBatch | WriteTask) -> "asyncio.Future[Any]":
        if self._closed:
            raise BrokerUnavailable("The broker is closed.", retry_after=RETRY_AFTER_SECONDS)
        done: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Pending(work, done))
        return done

    # On the writer thread

    def _run(self) -> None:
        while group := self._next_group():
            try:
                offsets, ends = self._commit([each.work for each in group])
            except Exception as error:  # noqa: BLE001 - a full disk, for example: all callers get it, the thread lives
                self._loop.call_soon_threadsafe(self._fail, group, error)
            else:
                self._loop.call_soon_threadsafe(self._acknowledge, group, offsets, ends)

    def _next_group(self) -> list[_Pending]:
        """Wait for work, and return all of it; return an empty list once the writer is closed."""
        group = []
        item = self._queue.get()
        try:
            while item is not None:
                group.append(item)
                item = self._queue.get_nowait()
            self._queue.put(None)  # closed: the next call finds it too
        except Empty:
            pass
        return group

    def _commit(self, works: Sequence[WriteBatch | WriteTask]) -> tuple[list[int], EndOffsets]:
        appends = [append for work in works if not callable(work) for append in work]
        offsets: list[int] = []
        ends: EndOffsets = {}
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if appends:
                offsets, ends = self._append(appends)
            for work in works:
                if callable(work):
                    work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        self._ends.update(ends)
        return offsets, ends

    def _append(self, appends: Sequence[Append]) -> tuple[list[int], EndOffsets]:
        if any(each.partition_id not in self._ends for each in appends):  # a topic was created
            self._ends = {row.id: row.end for row in storage.partitions(self._connection)}
        self._newest_ms = max(self._newest_ms, time.time_ns() // 1_000_000)
        return storage.append(self._connection, self._ends, appends, self._newest_ms)

    # On the event loop again

    def _acknowledge(self, group: Sequence[_Pending], offsets: Sequence[int], ends: EndOffsets) -> None:
        self._release(group)
        first = 0
        for work, done in group:
            result = None if callable(work) else offsets[first]
            first += 0 if callable(work) else len(work)
            if not done.done():
                done.set_result(result)
        if ends:
            self._on_append(ends)

    def _fail(self, group: Sequence[_Pending], error: Exception) -> None:
        self._release(group)
        for _, done in group:
            if not done.done():
                failure = BrokerUnavailable("The broker's file is not writable.", retry_after=RETRY_AFTER_SECONDS)
                failure.__cause__ = error
                done.set_exception(failure)

    def _release(self, group: Sequence[_Pending]) -> None:
        for work, _ in group:
            if not callable(work):
                self._limit.release(len(work), _size(work))


def _size(batch: WriteBatch) -> int:
    return sum(append.size for append in batch)
