"""Bounds on messages in flight (accepted and not yet acknowledged): how many, how large, and for how long."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from safevideo_common.broker.types import MAX_VALUE_BYTES, Message
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge

MAX_MESSAGES: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
RETRY_AFTER_SECONDS: Final = 5


def check_size(message: Message) -> None:
    """Raise `PayloadTooLarge` for a value over `MAX_VALUE_BYTES`."""
    if len(message.value) > MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"A message holds at most {MAX_VALUE_BYTES} bytes.")


def size_of(message: Message) -> int:
    """Return about how many bytes the message takes in memory. Whoever writes headers bounds their size."""
    return len(message.value) + len(message.key)


class InFlightLimit:
    """A limit of messages and bytes in flight. During an outage it bounds the memory and refuses the rest at once."""

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_messages")

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0

    def acquire(self, size: int, messages: int = 1) -> None:
        """Add messages of `size` bytes in total. Raises `BrokerUnavailable` if there is not room for all of them."""
        if self._messages + messages > self._max_messages or self._bytes + size > self._max_bytes:
            raise BrokerUnavailable("Too many messages wait for the broker.", retry_after=RETRY_AFTER_SECONDS)
        self._messages += messages
        self._bytes += size

    def release(self, messages: int, size: int) -> None:
        """Remove messages of `size` bytes in total after they are acknowledged or given up."""
        self._messages -= messages
        self._bytes -= size


Future = asyncio.Future[Any]  # only the owner of a future uses its result


class DeliveryTimeouts:
    """A deadline for many futures: a future that is not done after `seconds` fails with `BrokerUnavailable`.

    `asyncio.timeout` needs a timer, a heap entry and a handle for each message. All messages wait equally long, so a
    queue in order of arrival and one timer for its head are enough.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._watched: deque[tuple[float, Future]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, *futures: Future) -> None:
        """Start the common deadline of the futures.

        All expired futures fail in one step of the event loop. So no message is sent after an earlier one of the same
        batch has timed out.
        """
        watched = self._watched
        while watched and watched[0][1].done():  # bounds the queue
            watched.popleft()
        due = self._loop.time() + self._seconds
        watched.extend((due, future) for future in futures)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._expire)

    def close(self) -> None:
        """Fail all futures that are not done."""
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._watched:
            _fail(future, "The producer was closed before the broker acknowledged the message.")
        self._watched.clear()

    def _expire(self) -> None:
        watched = self._watched
        now = self._loop.time()
        while watched and (watched[0][1].done() or watched[0][0] <= now):
            _fail(watched.popleft()[1], "The broker did not acknowledge the message in time.")
        self._timer = self._loop.call_at(watched[0][0], self._expire) if watched else None


async def wait_all(futures: Sequence[Future]) -> Sequence[BaseException | None]:
    """Return the error of each future, or None, when all are done.

    If this task is cancelled, cancel all futures in one step of the event loop.
    """
    try:
        for future in futures:
            if not future.done():
                await asyncio.wait((future,))  # a cancellation of this task does not cancel this future alone
    finally:
        for future in futures:
            if not future.cancel() and not future.cancelled():
                future.exception()  # marks it as retrieved
    return [future.exception() for future in futures]


def _fail(future: Future, reason: str) -> None:
    if not future.done():
        future.set_exception(BrokerUnavailable(reason, retry_after=RETRY_AFTER_SECONDS))
