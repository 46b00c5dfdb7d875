"""Retries while a dependency is unavailable: one log line when an outage begins, and one when it ends.

    outage = Outage(logger, Backoff(0.25, 5.0), began="Outbox relay waits", ended="Outbox relay continues")
    while True:
        async with outage.attempt():
            await publish_batch()

An attempt that raises `ServiceUnavailable` is repeated after a delay.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from safevideo_common.errors import SafeVideoError, ServiceUnavailable
from safevideo_common.resilience.backoff import Backoff

Result = TypeVar("Result")


class Outage:
    """The state of one retry loop. For one task; `backoff` caps and jitters the delays."""

    def __init__(
        self,
        logger: FilteringBoundLogger,
        backoff: Backoff,
        *,
        began: str,
        ended: str,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`began` and `ended` are the log messages."""
        self.failures = 0
        """Failed attempts since the last success."""
        self._logger = logger
        self._backoff = backoff
        self._began = began
        self._ended = ended
        self._sleep = sleep

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Run one attempt of an endless loop. On `ServiceUnavailable`, sleep and suppress it."""
        try:
            yield
        except ServiceUnavailable as error:
            await self.failed(error)
        else:
            self.recovered()

    async def retry(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Call `step` until it does not raise `ServiceUnavailable`, and return its result."""
        while True:
            try:
                result = await step()
            except ServiceUnavailable as error:
                await self.failed(error)
            else:
                self.recovered()
                return result

    async def failed(self, error: SafeVideoError) -> None:
        """Log the first failure of an outage, then sleep until the next attempt is due."""
        self.failures += 1
        if self.failures == 1:
            self._logger.warning(self._began, code=error.code, reason=error.message)
        await self._sleep(self._backoff.delay(self.failures))

    def recovered(self) -> None:
        """Log the end of the outage, if there is one. Call this after each success."""
        if self.failures:
            self._logger.info(self._ended, failures=self.failures)
        self.failures = 0
