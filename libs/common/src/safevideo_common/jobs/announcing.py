"""Telling the workers at once of a job that was queued, for processes without an outbox relay."""

import asyncio
from contextlib import suppress
from secrets import token_hex
from typing import Final

from safevideo_common.clock import Clock
from safevideo_common.database.job_browser import Job
from safevideo_common.errors import LogUnavailable
from safevideo_common.events.commands import JobQueued, job_queued
from safevideo_common.messaging.port import Publisher

MOST_WAITING: Final = 100
"""Announcements; while Kafka is away each takes as long as the publisher's deadline."""


class Announcer:
    """Sends beside the answer what wakes the workers. `run` is one task's.

    Nothing depends on it: the same message is in the outbox, whose relay, in another process, looks again within a
    second. So what fails, or finds no room, is dropped, and what comes twice wakes a worker that finds nothing to do.
    """

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock
        self._waiting: asyncio.Queue[Job] = asyncio.Queue(MOST_WAITING)

    def tell(self, job: Job) -> None:
        """Announce a job whose row is committed. Returns at once and never raises."""
        with suppress(asyncio.QueueFull):
            self._waiting.put_nowait(job)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            job = await self._waiting.get()
            command = JobQueued(job.id, job.job_type, job.runner)
            message = job_queued(command, f"job-{job.id}-{token_hex(8)}", self._clock(), job.request_id)
            with suppress(LogUnavailable):
                await self._publisher.publish(message)
