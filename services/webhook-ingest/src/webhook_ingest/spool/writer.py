"""The thread that owns the spool's files. It writes all waiting messages at once, with one fsync (group commit)."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS, size_of
from safevideo_common.broker.types import Message
from safevideo_common.errors import BrokerUnavailable
from webhook_ingest.spool.store import SegmentStore

GROUP_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one write: the bound on how far a segment exceeds its size."""

Result = TypeVar("Result")


class _Append(NamedTuple):
    message: Message
    done: "asyncio.Future[int]"


class _Job(NamedTuple):
    work: Callable[[SegmentStore], Any]
    done: "asyncio.Future[Any]"  # the type of the result is the caller's business


OnWritten = Callable[[Sequence[Message]], None]
OnRejected = Callable[[Sequence[Message], Exception], None]


class SpoolWriter:
    """An ordered queue of work on the files. For the event loop that created it; the caller bounds the queue."""

    def __init__(self, store: SegmentStore, on_written: OnWritten, on_rejected: OnRejected) -> None:
        """Start the thread. Both callbacks run on the event loop, before the futures of their messages are done."""
        self._store = store
        self._on_written = on_written
        self._on_rejected = on_rejected
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Append | _Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    def append(self, message: Message) -> "asyncio.Future[int]":
        """Write the message with the next group. The future has its number once it is on disk.

        It has a `BrokerUnavailable` if the disk did not take it.
        """
        done: asyncio.Future[int] = self._loop.create_future()
        self._queue.put(_Append(message, done))
        return done

    def run(self, work: Callable[[SegmentStore], Result]) -> "asyncio.Future[Result]":
        """Run `work` in the thread, after everything that was queued before."""
        done: asyncio.Future[Result] = self._loop.create_future()
        self._queue.put(_Job(work, done))
        return done

    async def close(self) -> None:
        """Finish the queued work, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        item = self._queue.get()
        while item is not None:
            if isinstance(item, _Job):
                self._do(item)
                item = self._queue.get()
            else:
                item = self._write_group(item)

    def _do(self, job: _Job) -> None:
        try:
            result = job.work(self._store)
        except Exception as error:  # noqa: BLE001 - the caller gets it, and the thread lives on
            self._loop.call_soon_threadsafe(_set_exception, job.done, error)
        else:
            self._loop.call_soon_threadsafe(_set_result, job.done, result)

    def _write_group(self, first: _Append) -> _Append | _Job | None:
        """Write `first` and the messages queued behind it. Return the next item of the queue."""
        group, next_item = self._take_group(first)
        try:
            number = self._store.append([entry.message for entry in group], time.time_ns() // 1_000_000)
        except Exception as error:  # noqa: BLE001 - a full disk, say: every sender gets it, and the thread lives on
            self._loop.call_soon_threadsafe(self._rejected, group, error)
        else:
            self._loop.call_soon_threadsafe(self._written, group, number)
        return self._queue.get() if isinstance(next_item, _Append) else next_item

    def _take_group(self, first: _Append) -> tuple[list[_Append], _Append | _Job | None]:
        """Return the messages of one write, and the item that ended the group; `first` if no other item did."""
        group, size = [first], size_of(first.message)
        try:
            while size < GROUP_BYTES:
                item = self._queue.get_nowait()
                if not isinstance(item, _Append):
                    return group, item
                group.append(item)
                size += size_of(item.message)
        except Empty:
            pass
        return group, first

    def _written(self, group: Sequence[_Append], first_number: int) -> None:
        self._on_written([entry.message for entry in group])
        for number, entry in enumerate(group, first_number):
            _set_result(entry.done, number)

    def _rejected(self, group: Sequence[_Append], cause: Exception) -> None:
        self._on_rejected([entry.message for entry in group], cause)
        for entry in group:
            error = BrokerUnavailable("Kafka and the disk are unavailable.", retry_after=RETRY_AFTER_SECONDS)
            error.__cause__ = cause
            _set_exception(entry.done, error)


def _set_result(done: "asyncio.Future[Any]", result: object) -> None:
    if not done.done():
        done.set_result(result)


def _set_exception(done: "asyncio.Future[Any]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
