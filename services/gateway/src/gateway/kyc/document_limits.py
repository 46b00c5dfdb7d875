"""Limits of documents that are sent to us or by us: one a person at a time, and the bytes that all have in memory.

A person with a slow connection, or with many documents, keeps nobody else waiting.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from safevideo_common.errors import Overloaded, RateLimited

MAX_OF_PERSON: Final = 4
"""Documents of one person: one is under way, the others wait unread. A request has three documents or four."""
WAIT_SECONDS: Final = 120.0
"""The longest wait for an earlier one. A document takes a minute at most to arrive, and then it waits for others."""
MAX_BODY_BYTES: Final = 96 << 20
"""Bytes of all bodies that arrive, or wait to be converted, in a process."""
RETRY_AFTER_SECONDS: Final = 5


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class PersonQueues:
    """The documents of persons in order: one of a person is under way at a time."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def one_at_a_time(self, person: str) -> AsyncIterator[None]:
        """Wait until no other document of the person is under way.

        Raises `RateLimited` when too many wait, or this one has waited too long. `person` is any lasting name.
        """
        queue = self._queues.setdefault(person, _Queue())
        if queue.length >= MAX_OF_PERSON:
            raise _too_many()
        queue.length += 1
        try:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await queue.lock.acquire()
            except TimeoutError:
                raise _too_many() from None
            try:
                yield
            finally:
                queue.lock.release()
        finally:
            queue.length -= 1
            if queue.length == 0:
                del self._queues[person]


class BodyMemory:
    """The bytes of bodies in memory. A body counts what has arrived of it, so a slow one takes little."""

    def __init__(self, limit: int = MAX_BODY_BYTES) -> None:
        self._limit = limit
        self._used = 0

    @contextmanager
    def share(self) -> Iterator["BodyShare"]:
        """Return the share of one body. It is given back at the end."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self._used -= share.bytes

    def take(self, count: int) -> None:
        """Count bytes. Raises `Overloaded` when there are too many."""
        if self._used + count > self._limit:
            raise Overloaded("Too many documents are being uploaded.", retry_after=RETRY_AFTER_SECONDS)
        self._used += count


class BodyShare:
    """The part of the memory that one body has."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.bytes = 0

    def take(self, count: int) -> None:
        """Count bytes that have arrived. Raises `Overloaded`."""
        self._memory.take(count)
        self.bytes += count


def _too_many() -> RateLimited:
    return RateLimited("Too many documents of yours are under way.", retry_after=RETRY_AFTER_SECONDS)
