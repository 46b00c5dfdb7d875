"""The bound on what a publisher has accepted and not yet seen acknowledged."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from safevideo_common.broker.types import MAX_VALUE_BYTES, Message
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge

MAX_MESSAGES: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
RETRY_AFTER_SECONDS: Final = 5


class InFlightLimit:
    """Counts messages and bytes: an outage costs a bounded amount of memory, and beyond it is refused at once."""

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_messages")

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0

    def admit(self, size: int, messages: int = 1) -> None:
        """Count in messages of together `size` bytes. Raises `BrokerUnavailable` when there is not room for all."""
        if self._messages + messages > self._max_messages or self._bytes + size > self._max_bytes:
            raise BrokerUnavailable("Too many messages await the event log.", retry_after=RETRY_AFTER_SECONDS)
        self._messages += messages
        self._bytes += size

    def release(self, messages: int, size: int) -> None:
        """Count out messages of together `size` bytes, acknowledged or given up."""
        self._messages -= messages
        self._bytes -= size


def check_size(message: Message) -> None:
    """Raises `PayloadTooLarge` for a value over `MAX_VALUE_BYTES`."""
    if len(message.value) > MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"A message holds at most {MAX_VALUE_BYTES} bytes.")


def size_of(message: Message) -> int:
    """Bytes that it keeps in memory, about: headers are bounded by those who write them."""
    return len(message.value) + len(message.key)


# One deadline for very many futures, with one timer for all of them.


_Future = asyncio.Future[Any]  # what the future holds is its owner's business


class DeliveryTimeouts:
    """Fails every watched future that is not done after `seconds`, with `BrokerUnavailable`.

    `asyncio.timeout` costs a timer, a heap entry and a handle for each message; since all wait equally long, a queue in
    order of arrival and a timer for its head do the same.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._watched: deque[tuple[float, _Future]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, future: _Future) -> None:
        """Start its time. What is done at the head is let go here, so the queue stays as long as what is open."""
        self.watch_all((future,))

    def watch_all(self, futures: Iterable[_Future]) -> None:
        """Start their common time. Those that are not done by then fail in one step, between which nothing else runs.

        So of messages that follow each other none is sent when an earlier one has just been given up.
        """
        watched = self._watched
        while watched and watched[0][1].done():
            watched.popleft()
        due = self._loop.time() + self._seconds
        watched.extend((due, future) for future in futures)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._expire)

    def close(self) -> None:
        """Fail what is still open."""
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._watched:
            _fail(future, "The publisher was closed before the event log acknowledged the message.")
        self._watched.clear()

    def _expire(self) -> None:
        watched = self._watched
        now = self._loop.time()
        while watched and (watched[0][1].done() or watched[0][0] <= now):
            _fail(watched.popleft()[1], "The event log gave no acknowledgement in time.")
        self._timer = self._loop.call_at(watched[0][0], self._expire) if watched else None


async def wait_all(futures: Sequence[_Future]) -> None:
    """Return when all are done. Raises the first failure that is noticed, or `CancelledError` when this is cancelled.

    Those that are not done then are cancelled in one step, likewise.
    """
    try:
        for future in futures:
            if not future.done():
                await asyncio.wait((future,))  # which lets it be when this task is cancelled: all must end at once
            future.result()
    finally:
        for future in futures:
            if not future.cancel() and not future.cancelled():
                future.exception()  # has been told, or is one like it


def _fail(future: _Future, reason: str) -> None:
    if not future.done():
        future.set_exception(BrokerUnavailable(reason, retry_after=RETRY_AFTER_SECONDS))
