"""How many webhooks one process has in hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from safevideo_common.errors import Overloaded, RequestTimedOut

RETRY_AFTER_SECONDS: Final = 1


class ConcurrencyLimit:
    """At most `limit` at once: `with in_flight:` around all that is done for one, the reading of its body included.

    Entering raises `Overloaded` when there are as many: whoever is one too many learns it at once, not after a queue.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.now = 0

    def __enter__(self) -> None:
        if self.now >= self._limit:
            raise Overloaded("More webhooks are in hand than this server takes.", retry_after=RETRY_AFTER_SECONDS)
        self.now += 1

    def __exit__(self, *_raised: object) -> None:
        self.now -= 1


# Bodies that did not come along with their head. An honest one is there a moment later; a slow sender's never is.


class _Slot:
    __slots__ = ("deadline", "gave_way", "size")

    def __init__(self, size: int, deadline: asyncio.Timeout) -> None:
        self.size = size
        self.deadline = deadline
        self.gave_way = False


class SlowBodyLimiter:
    """Room for `bodies` at a time and `total_bytes` together, each for `seconds` in all, however it trickles.

    When the room is full, the one that has been waited for longest gives way. So slow senders push out each other: an
    honest body is waited for as long as it takes to fill the room anew, which is far longer than it needs.
    """

    def __init__(self, *, bodies: int, total_bytes: int, seconds: float) -> None:
        self._bodies = bodies
        self._free_bytes = total_bytes
        self._seconds = seconds
        self._places: dict[_Slot, None] = {}

    @asynccontextmanager
    async def waiting(self, size: int) -> AsyncIterator[None]:
        """Around the reading of a body of `size` bytes at most.

        Raises `RequestTimedOut` when it took too long, and `Overloaded` when it gave way.
        """
        self._make_room(size)
        place = None
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                place = self._take(size, deadline)
                yield
        except TimeoutError:
            if place is not None and place.gave_way:
                raise Overloaded("Too many bodies are on their way.", retry_after=RETRY_AFTER_SECONDS) from None
            raise RequestTimedOut("The body did not arrive in time.") from None
        finally:
            if place in self._places:
                self._leave(place)

    def _take(self, size: int, deadline: asyncio.Timeout) -> _Slot:
        place = _Slot(size, deadline)
        self._places[place] = None
        self._free_bytes -= size
        return place

    def _leave(self, place: _Slot) -> None:
        del self._places[place]
        self._free_bytes += place.size

    def _make_room(self, size: int) -> None:
        while self._places and (len(self._places) >= self._bodies or self._free_bytes < size):
            oldest = next(iter(self._places))
            self._leave(oldest)
            if not oldest.deadline.expired():
                oldest.gave_way = True
                oldest.deadline.reschedule(asyncio.get_running_loop().time())
