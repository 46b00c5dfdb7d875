"""The engine: claims jobs as long as there is room for them, runs each as a task, and lets go in order."""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from random import uniform
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.bounds import EngineBounds
from safevideo_common.jobs.claiming import Claiming
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.heartbeat import Heartbeat
from safevideo_common.jobs.in_hand import GIVE_BACK_SECONDS, JobsInHand
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.rescue import Rescue
from safevideo_common.jobs.trying import Trier
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

CROWDED_SECONDS: Final = 0.02
OUTAGE: Final = Backoff(initial=0.25, maximum=5.0)


class JobEngine:
    """The jobs of one process. `run` is for one task; `drain` ends it."""

    def __init__(
        self, service: str, handlers: Mapping[str, JobHandler], database: Database, bounds: EngineBounds,
        metrics: JobMetrics, log: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        """`database` has a pool of its own, so that jobs and live events do not wait for each other's connections."""
        self.wake: Final = asyncio.Event()
        """Set when a job may have been queued."""
        worker = f"{service}-{secrets.token_hex(4)}"
        self._bounds = bounds
        self._log = log
        self._is_draining = False
        self._turns = asyncio.Lock()
        self._claiming = Claiming(database, handlers, service, worker, bounds.lease_seconds)
        self.in_hand: Final = JobsInHand(database, bounds, Trier(handlers, bounds.retry, log), self.wake, metrics, log)
        self.endings: Final = self.in_hand.endings
        self.heartbeat: Final = Heartbeat(
            database, self.in_hand.runs, bounds.lease_seconds, self.in_hand.lose, metrics, log
        )
        self.rescue: Final = Rescue(database, bounds.lease_seconds, bounds.retry, metrics, log)

    async def run(self) -> None:
        """Claim and run jobs until drained; cancelled, it leaves them to be rescued."""
        tries = 0
        while not self._is_draining:
            self.wake.clear()
            try:
                is_more = await self._turn()
            except ServiceUnavailable as error:
                is_more, tries = False, tries + 1
                if tries == 1:
                    self._log.warning("Job engine waits", code=error.code, reason=error.message)
                await asyncio.sleep(OUTAGE.delay(tries))
            else:
                tries = 0
            if not is_more and not self._is_draining:
                await self._rest()
        await asyncio.Event().wait()  # a background task that returns has died

    async def _turn(self) -> bool:
        """Fill the room that there is; whether there may be more to take."""
        await self.in_hand.has_room()
        async with self._turns:
            return not self._is_draining and await self._fill()

    async def _fill(self) -> bool:
        limit = min(self.in_hand.free, self._bounds.claim)
        claimed = await self._claiming.claim(limit, self.in_hand.room_by_type())
        self.in_hand.start(claimed.jobs)
        return claimed.is_more

    async def _rest(self) -> None:
        seconds = CROWDED_SECONDS if self._claiming.is_crowded else self._bounds.poll_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(uniform(seconds / 2, seconds)):  # noqa: S311 - jitter guards nothing
                await self.wake.wait()

    async def drain(self, grace_seconds: float) -> None:
        """Claim no more, let runs come to a checkpoint, and give the rest back to the queue as they last saved it."""
        self._is_draining = True
        self.wake.set()
        self.in_hand.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_BACK_SECONDS), self._turns:
                pass  # what is just being claimed has been started
        await self.in_hand.drain(grace_seconds)
