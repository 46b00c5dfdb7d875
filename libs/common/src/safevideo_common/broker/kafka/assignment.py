"""Whether what was fetched is still this member's to apply.

aiokafka revokes all partitions at each rebalance, so one epoch stands for every partition's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Final

from safevideo_common.broker.port import PartitionsLost
from safevideo_common.tasks import cancel_and_wait

BEAT_SECONDS: Final = 1.0
FROZEN_SECONDS: Final = 12.0
"""A process that stood still for so long counts as thrown out of its group, a little before it is: the session timeout
is 15 s, and its last heartbeat was sent up to a second before it froze."""


class Assignment:
    """One for a subscription, whatever becomes of its connections."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """`now` is a clock in seconds that goes on while the process stands still."""
        self._now = now
        self.epoch = 0
        self._held = 0
        self._released = asyncio.Event()
        self._last_beat = now()

    @contextmanager
    def hold(self) -> Iterator["AssignmentClaim"]:
        """A claim of this epoch. `drain` waits for the end of the block."""
        self._held += 1
        try:
            yield AssignmentClaim(self, self.epoch)
        finally:
            self._held -= 1
            if not self._held:
                self._released.set()

    async def drain(self, seconds: float) -> None:
        """Return when nothing is held any more, at the latest after `seconds`; then end the epoch."""
        if self._held:
            self._released.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._released.wait()
        self.lose()

    def lose(self) -> None:
        """End the epoch: every claim is void."""
        self.epoch += 1

    def beat(self) -> None:
        """Show that the event loop turns; a long gap ends the epoch. Called before each check and by a timer."""
        now = self._now()
        if now - self._last_beat > FROZEN_SECONDS:
            self.lose()
        self._last_beat = now


class AssignmentClaim:
    """See `Claim`."""

    __slots__ = ("_epoch", "_ownership")

    def __init__(self, ownership: Assignment, epoch: int) -> None:
        self._ownership = ownership
        self._epoch = epoch

    def check(self) -> None:
        """Void after a rebalance, with a new connection, and when the process has stood still."""
        self._ownership.beat()
        if self._ownership.epoch != self._epoch:
            raise PartitionsLost


@asynccontextmanager
async def open_assignment(client_id: str) -> AsyncIterator[Assignment]:
    """The ownership of one subscription, with the task that watches for standstills."""
    ownership = Assignment()
    beats = asyncio.create_task(_keep_beating(ownership), name=f"kafka-beats-{client_id}")
    try:
        yield ownership
    finally:
        await cancel_and_wait(beats)


async def _keep_beating(ownership: Assignment) -> None:
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        ownership.beat()
