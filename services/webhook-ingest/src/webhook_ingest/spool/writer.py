"""The one thread that touches the spool's files: whatever waits when it comes round is one write, and one fsync."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from safevideo_common.broker.delivery import size_of
from safevideo_common.broker.types import Message
from webhook_ingest.spool.store import SegmentStore

GROUP_BYTES: Final = 4 * 1024 * 1024
"""Of one write: what bounds how far a segment grows beyond its size."""

Answer = TypeVar("Answer")


class Entry(NamedTuple):
    """A message to be written, and the future of its number."""

    message: Message
    done: "asyncio.Future[int]"


class _Job(NamedTuple):
    work: Callable[[SegmentStore], Any]
    done: "asyncio.Future[Any]"  # what the job answers is its owner's business


OnWritten = Callable[[Sequence[Entry], int], None]
OnRefused = Callable[[Sequence[Entry], Exception], None]


class SpoolWriter:
    """Takes work in order. Its methods are for the event loop that made it; what bounds the queue is its owner's."""

    def __init__(self, files: SegmentStore, on_written: OnWritten, on_refused: OnRefused) -> None:
        """Both are called on the event loop, with entries that are on disk and the first one's number, or are not."""
        self._files = files
        self._on_written = on_written
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Entry | _Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-scribe", daemon=True)
        self._thread.start()

    def append(self, entry: Entry) -> None:
        """Write it with the next group."""
        self._queue.put(entry)

    def run(self, work: Callable[[SegmentStore], Answer]) -> "asyncio.Future[Answer]":
        """The answer of `work`, which runs after all that was asked for before."""
        done: asyncio.Future[Answer] = self._loop.create_future()
        self._queue.put(_Job(work, done))
        return done

    async def close(self) -> None:
        """Do what waits, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        following = self._queue.get()
        while following is not None:
            if isinstance(following, _Job):
                self._do(following)
                following = self._queue.get()
            else:
                following = self._write(following)

    def _do(self, job: _Job) -> None:
        try:
            answer = job.work(self._files)
        except Exception as error:  # noqa: BLE001 - whoever asked hears it, and the thread lives on
            self._loop.call_soon_threadsafe(_fail, job.done, error)
        else:
            self._loop.call_soon_threadsafe(_answer, job.done, answer)

    def _write(self, first: Entry) -> Entry | _Job | None:
        """Write `first` and the entries that wait behind it; the work that follows them."""
        group, following = self._group(first)
        try:
            number = self._files.append([entry.message for entry in group], time.time_ns() // 1_000_000)
        except Exception as error:  # noqa: BLE001 - a full disk, say: all of them hear it and the thread lives on
            self._loop.call_soon_threadsafe(self._on_refused, group, error)
        else:
            self._loop.call_soon_threadsafe(self._on_written, group, number)
        return self._queue.get() if isinstance(following, Entry) else following

    def _group(self, first: Entry) -> tuple[list[Entry], Entry | _Job | None]:
        """The entries of one write, and the work that broke the row; an entry of the row where none did."""
        group, size = [first], size_of(first.message)
        try:
            while size < GROUP_BYTES:
                following = self._queue.get_nowait()
                if not isinstance(following, Entry):
                    return group, following
                group.append(following)
                size += size_of(following.message)
        except Empty:
            pass
        return group, first


def _answer(done: "asyncio.Future[Any]", answer: object) -> None:
    if not done.done():
        done.set_result(answer)


def _fail(done: "asyncio.Future[Any]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
