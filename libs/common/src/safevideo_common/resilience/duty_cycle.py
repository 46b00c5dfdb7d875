"""A duty cycle: periodic work that takes at most a share of the time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from safevideo_common.resilience.backoff import jittered


class DutyCycle:
    """The longer something took, the later it is due again."""

    def __init__(self, share: float, seconds: Callable[[], float] = monotonic) -> None:
        """`share` is between 0 and 1."""
        self._share = share
        self._seconds = seconds
        self._due = seconds()

    def is_due(self) -> bool:
        """Return whether the share allows work now."""
        return self._seconds() >= self._due

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Around what is done. It counts when it fails, too."""
        started = self._seconds()
        try:
            yield
        finally:
            ended = self._seconds()
            self._due = started + (ended - started) / self._share

    async def repeat(self, work: Callable[[], Awaitable[None]], interval: float) -> None:
        """Do `work` every `interval` seconds (jittered) if it is due, until cancelled."""
        while True:
            if self.is_due():
                with self.measured():
                    await work()
            await asyncio.sleep(jittered(interval))
