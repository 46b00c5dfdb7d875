"""The thread that writes: whatever waits when it comes round is one transaction, and one fsync."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS, Backlog
from safevideo_common.messaging.embedded import reading, writing
from safevideo_common.messaging.embedded.writing import Append

Job = Callable[[sqlite3.Connection], None]
Round = Sequence[Append]
"""Records that are written together or not at all."""

Moved = Mapping[int, int]
"""End offset by partition id."""

NO_RECORDS: Final[Moved] = {}


class _Waiting(NamedTuple):
    work: Round | Job
    done: "asyncio.Future[Any]"  # the first one's offset for a Round, None for a Job


class Writer:
    """Commits in groups. Its methods are for the event loop that made it; `close` ends the thread."""

    def __init__(self, connection: sqlite3.Connection, on_appended: Callable[[Moved], None]) -> None:
        """`on_appended` is called on the event loop after each commit, with the ends that moved."""
        self._connection = connection
        self._on_appended = on_appended
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._backlog = Backlog()  # what bounds the queue
        self._ends: dict[int, int] = {}
        self._newest_ms = reading.newest_timestamp(connection)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="embedded-log-writer", daemon=True)
        self._thread.start()

    def append(self, appends: Round) -> "asyncio.Future[int]":
        """The offset of the first, once all are fsynced; `LogUnavailable` when they could not be written.

        Raises `LogUnavailable` when too much waits already.
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

    def _enqueue(self, work: Round | Job) -> "asyncio.Future[Any]":
        if self._closed:
            raise LogUnavailable("The event log is closed.", retry_after=RETRY_AFTER_SECONDS)
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

    def _commit(self, works: Sequence[Round | Job]) -> tuple[list[int], Moved]:
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
            self._ends = {stored.id: stored.end for stored in reading.partitions(self._connection)}
        self._newest_ms = max(self._newest_ms, time.time_ns() // 1_000_000)
        return writing.append(self._connection, self._ends, appends, self._newest_ms)

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
                refusal = LogUnavailable("The event log's file could not be written.", retry_after=RETRY_AFTER_SECONDS)
                refusal.__cause__ = error
                done.set_exception(refusal)

    def _release(self, group: Sequence[_Waiting]) -> None:
        for work, _ in group:
            if not callable(work):
                self._backlog.release(len(work), _size(work))


def _size(appends: Round) -> int:
    return sum(append.size for append in appends)
