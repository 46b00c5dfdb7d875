"""Time in tests: a clock to move, a task beside the test, and waiting for a condition instead of sleeping."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from safevideo_common.tasks import cancel_and_wait

DEADLINE_SECONDS: Final = 30.0


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
