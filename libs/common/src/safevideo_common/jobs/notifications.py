"""Hearing at once of jobs that others have queued."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

import msgspec

from safevideo_common.broker.port import Broker, Producer
from safevideo_common.broker.types import Record, next_offsets
from safevideo_common.clock import Clock
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.events.commands import JobQueued, job_queued
from safevideo_common.events.topics import COMMANDS
from safevideo_common.jobs.store.admin import Job
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

FETCH_SECONDS: Final = 5.0
FETCH_RECORDS: Final = 500
OUTAGE: Final = Backoff(initial=0.5, maximum=10.0)

_command: Final = msgspec.json.Decoder(JobQueued)


@dataclass(frozen=True, slots=True)
class JobListener:
    """Run by one task. A message that is lost, or comes twice, costs nothing: the row is what counts."""

    broker: Broker
    service: str
    job_types: frozenset[str]
    wake: asyncio.Event
    log: FilteringBoundLogger

    async def run(self) -> None:
        """Until cancelled. While the log is away the engine finds its jobs by looking."""
        group, tries = f"{self.service}.commands", 0
        while True:
            try:
                async with self.broker.subscribe(group, [COMMANDS], group) as subscription:
                    while True:
                        records = await subscription.fetch(max_records=FETCH_RECORDS, timeout=FETCH_SECONDS)
                        tries = 0
                        if records:
                            self.hear(records)
                            await subscription.commit(next_offsets(records))
            except BrokerUnavailable as error:
                tries += 1
                if tries == 1:
                    self.log.warning("Job messages wait", code=error.code, reason=error.message)
                await asyncio.sleep(OUTAGE.delay(tries))

    def hear(self, records: Sequence[Record]) -> None:
        """Wake the engine when one of them is about a job for us."""
        if any(self._is_ours(command) for command in _commands(records)):
            self.wake.set()

    def _is_ours(self, command: JobQueued) -> bool:
        return command.job_type in self.job_types and command.runner in (None, self.service)


def _commands(records: Iterable[Record]) -> Iterable[JobQueued]:
    for record in records:
        try:
            yield _command.decode(record.value)
        except msgspec.MsgspecError:
            continue  # of another kind, or from a later build


# Telling the workers at once of a job that was queued, for processes without an outbox relay.


MAX_PENDING: Final = 100
"""Announcements; while Kafka is away each takes as long as the publisher's deadline."""


class JobNotifier:
    """Sends beside the answer what wakes the workers. `run` is one task's.

    Nothing depends on it: the same message is in the outbox, whose relay, in another process, looks again within a
    second. So what fails, or finds no room, is dropped, and what comes twice wakes a worker that finds nothing to do.
    """

    def __init__(self, publisher: Producer, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock
        self._waiting: asyncio.Queue[Job] = asyncio.Queue(MAX_PENDING)

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
            with suppress(BrokerUnavailable):
                await self._publisher.publish(message)
