"""Time in tests: a clock to move, a task beside the test, and waiting for a condition instead of sleeping."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from safevideo_common.tasks import cancel_and_wait

DEADLINE_SECONDS: Final = 120.0
"""How long a test waits for a state. It bounds a hang and measures no speed, so a busy machine does not reach it."""

TICK_SECONDS: Final = 0.1


class FakeClock:
    """A `Clock` that stands still until it is moved, and counts how often it was asked."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)
        self.asked = 0

    def __call__(self) -> datetime:
        """The moment at which it stands."""
        self.asked += 1
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move it."""
        self.now += by


class Ticks:
    """The number of times that a task which sleeps for `TICK_SECONDS` has run: time as this event loop had it.

    A busy machine makes each tick longer, and the number smaller. So an upper bound on it measures our own code alone.
    """

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.count += 1

    @property
    def seconds(self) -> float:
        """The same as seconds of an idle machine."""
        return self.count * TICK_SECONDS


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticks]:
    """Count ticks for as long as the block lasts."""
    ticks = Ticks()
    async with running_task(ticks.run()):
        yield ticks


@asynccontextmanager
async def running_task(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """`work` as a task for as long as the block lasts, cancelled then; what it raised is raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await cancel_and_wait(task)
        if not task.cancelled():
            task.result()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = DEADLINE_SECONDS) -> None:
    """Return once the condition holds. Raises `TimeoutError` when it does not for so long."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)
