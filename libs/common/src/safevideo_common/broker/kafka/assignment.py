"""Fencing of fetched batches: a batch may be processed only until its partitions change their owner.

aiokafka revokes all partitions at each rebalance, so one generation stands for all of them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Final

from safevideo_common.broker.port import PartitionsLost
from safevideo_common.tasks import cancel_and_wait, wait_event

TOUCH_SECONDS: Final = 1.0
FROZEN_SECONDS: Final = 12.0
"""A process that stood still for this long counts as removed from its group. This is before the broker removes it: the
session timeout is 15 s, and the process may have sent its last heartbeat a second before it froze."""


class Assignment:
    """The ownership of the partitions of one subscription. It outlives the connections."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """`now` is a clock in seconds that continues while the process stands still."""
        self._now = now
        self.generation = 0
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._last_touch = now()

    @contextmanager
    def hold(self) -> Iterator["AssignmentClaim"]:
        """Return a claim of this generation. `drain` waits for the end of the block."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield AssignmentClaim(self, self.generation)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` until no batch is in flight, then revoke."""
        if self._in_flight:
            await wait_event(self._idle, seconds)
        self.revoke()

    def revoke(self) -> None:
        """End the generation: every claim becomes void."""
        self.generation += 1

    def touch(self) -> None:
        """Record that the event loop runs. After a long gap, revoke. A timer and each check call this."""
        now = self._now()
        if now - self._last_touch > FROZEN_SECONDS:
            self.revoke()
        self._last_touch = now


class AssignmentClaim:
    """See `PartitionClaim`. Void after a rebalance, after a new connection, and after the process stood still."""

    __slots__ = ("_assignment", "_generation")

    def __init__(self, assignment: Assignment, generation: int) -> None:
        self._assignment = assignment
        self._generation = generation

    def check(self) -> None:
        """Raise `PartitionsLost` if the claim is void."""
        self._assignment.touch()
        if self._assignment.generation != self._generation:
            raise PartitionsLost


@asynccontextmanager
async def open_assignment(client_id: str) -> AsyncIterator[Assignment]:
    """Open the assignment of one subscription, with the task that detects standstills."""
    assignment = Assignment()
    task = asyncio.create_task(_keep_touching(assignment), name=f"kafka-assignment-{client_id}")
    try:
        yield assignment
    finally:
        await cancel_and_wait(task)


async def _keep_touching(assignment: Assignment) -> None:
    while True:
        await asyncio.sleep(TOUCH_SECONDS)
        assignment.touch()
