"""The bound on bodies that arrive slowly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from safevideo_common.errors import Overloaded, RequestTimedOut

RETRY_AFTER_SECONDS: Final = 1


class _SlowBody:
    __slots__ = ("deadline", "is_evicted", "size")

    def __init__(self, size: int, deadline: asyncio.Timeout) -> None:
        self.size = size
        self.deadline = deadline
        self.is_evicted = False


class SlowBodyLimiter:
    """At most `max_bodies` bodies and `total_bytes` that are still arriving, each for `seconds` in all.

    At the limit, the body that has been arriving for longest is evicted. So slow senders evict each other: an honest
    body has the time in which the limit fills anew, which is far longer than it needs.
    """

    def __init__(self, *, max_bodies: int, total_bytes: int, seconds: float) -> None:
        self._max_bodies = max_bodies
        self._free_bytes = total_bytes
        self._seconds = seconds
        self._arriving: dict[_SlowBody, None] = {}

    @asynccontextmanager
    async def reading(self, size: int) -> AsyncIterator[None]:
        """Bound the read of a body of at most `size` bytes.

        Raises `RequestTimedOut` after the timeout, and `Overloaded` if the body was evicted.
        """
        self._make_room(size)
        body = None
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                body = _SlowBody(size, deadline)
                self._arriving[body] = None
                self._free_bytes -= size
                yield
        except TimeoutError:
            if body is not None and body.is_evicted:
                raise Overloaded("Too many bodies are still arriving.", retry_after=RETRY_AFTER_SECONDS) from None
            raise RequestTimedOut("The body did not arrive in time.") from None
        finally:
            if body in self._arriving:
                self._remove(body)

    def _remove(self, body: _SlowBody) -> None:
        del self._arriving[body]
        self._free_bytes += body.size

    def _make_room(self, size: int) -> None:
        while self._arriving and (len(self._arriving) >= self._max_bodies or self._free_bytes < size):
            oldest = next(iter(self._arriving))
            self._remove(oldest)
            if not oldest.deadline.expired():
                oldest.is_evicted = True
                oldest.deadline.reschedule(asyncio.get_running_loop().time())
