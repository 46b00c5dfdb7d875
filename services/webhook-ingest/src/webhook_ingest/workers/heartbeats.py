"""How the parent knows that its workers make progress: each writes the time into a place that both can see."""

import asyncio
import mmap
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

BEAT_SECONDS: Final = 1.0

HUNG_SECONDS: Final = 30.0
"""Nothing holds a worker's event loop for so long for a good reason: files, digests and reports have threads. Killing
it costs the requests that it has in hand, so one must be sure; and the provider's next tries come later than this."""

_MOMENT: Final = struct.Struct("=d")


class Heartbeats:
    """One place a worker, in memory that is shared with the processes forked from this one.

    Moments are those of the monotonic clock, which is the same in every process and stands while the machine sleeps.
    """

    def __init__(
        self, count: int, hung_seconds: float = HUNG_SECONDS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """For the workers 1 to `count`."""
        self._memory = mmap.mmap(-1, (count + 1) * _MOMENT.size)
        self._hung_seconds = hung_seconds
        self._clock = clock
        self._looked_at = clock()

    @property
    def look_seconds(self) -> float:
        """How often `silent` is to be asked."""
        return self._hung_seconds / 6

    def beat(self, number: int) -> None:
        """This worker makes progress."""
        _MOMENT.pack_into(self._memory, number * _MOMENT.size, self._clock())

    async def keep_beating(self, number: int) -> None:
        """Beat for as long as the event loop goes round."""
        while True:
            self.beat(number)
            await asyncio.sleep(min(BEAT_SECONDS, self.look_seconds))

    def silent(self, numbers: Sequence[int]) -> list[int]:
        """Those that have not beaten for too long.

        When this process itself was stopped meanwhile, so were they most likely: all get the whole time again.
        """
        now = self._clock()
        was_stopped = now - self._looked_at > self._hung_seconds / 2
        self._looked_at = now
        if was_stopped:
            for number in numbers:
                self.beat(number)
        return [number for number in numbers if now - self._last(number) > self._hung_seconds]

    def _last(self, number: int) -> float:
        (moment,) = _MOMENT.unpack_from(self._memory, number * _MOMENT.size)
        return float(moment)
