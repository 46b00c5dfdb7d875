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
    """A `Clock` that stands still until it is advanced, and counts its calls."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)
        self.calls = 0

    def __call__(self) -> datetime:
        """Return the current time of this clock."""
        self.calls += 1
        return self.now

    def advance(self, by: timedelta) -> None:
        """Advance the clock."""
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
        """Return the seconds that an idle machine needs for these ticks."""
        return self.count * TICK_SECONDS


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticks]:
    """Count ticks for as long as the block lasts."""
    ticks = Ticks()
    async with running_task(ticks.run()):
        yield ticks


@asynccontextmanager
async def running_task(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` as a task during the block, then cancel it. Raise its error."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await cancel_and_wait(task)
        if not task.cancelled():
            task.result()


async def eventually(
    condition: Callable[[], Awaitable[bool]], seconds: float = DEADLINE_SECONDS, poll_seconds: float = 0.01
) -> None:
    """Return when the condition is true. Raises `TimeoutError` if it is still false after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(poll_seconds)
