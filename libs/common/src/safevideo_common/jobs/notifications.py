"""The wake-up of workers by messages on `integration.commands.v1`. A lost message costs one poll interval."""

import asyncio
from collections.abc import Sequence
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
from safevideo_common.jobs.model import Job
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.resilience.outages import Outage

FETCH_SECONDS: Final = 5.0
FETCH_RECORDS: Final = 500
OUTAGE: Final = Backoff(initial=0.5, maximum=10.0)
MAX_PENDING: Final = 100
"""Pending notifications; during a Kafka outage each takes as long as the producer's timeout."""

_decoder: Final = msgspec.json.Decoder(JobQueued)


class JobNotifier:
    """Publishes the wake-up message directly, in a process without an outbox relay.

    The outbox has the same message, and the relay of another process publishes it within a second. So a failed or
    surplus notification is dropped, and a duplicate wakes a worker that finds nothing to do.
    """

    def __init__(self, producer: Producer, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock
        self._pending: asyncio.Queue[Job] = asyncio.Queue(MAX_PENDING)

    def notify(self, job: Job) -> None:
        """Queue a notification of a job whose row is committed. Returns at once and never raises."""
        with suppress(asyncio.QueueFull):
            self._pending.put_nowait(job)

    async def run(self) -> None:
        """Publish notifications until cancelled."""
        while True:
            job = await self._pending.get()
            command = JobQueued(job.id, job.job_type, job.runner)
            message = job_queued(command, f"job-{job.id}-{token_hex(8)}", self._clock(), job.request_id)
            with suppress(BrokerUnavailable):
                await self._producer.publish(message)


@dataclass(frozen=True, slots=True)
class JobListener:
    """Wakes the worker of this process when a job that it may run was queued."""

    broker: Broker
    service: str
    job_types: frozenset[str]
    wakeup: asyncio.Event
    logger: FilteringBoundLogger

    async def listen(self) -> None:
        """Listen until cancelled. During a Kafka outage the worker finds its jobs by polling."""
        group = f"{self.service}.commands"
        outage = Outage(
            self.logger,
            OUTAGE,
            began="Job notifications not received, retrying",
            ended="Job notifications received again",
        )
        while True:
            try:
                async with self.broker.subscribe(group, [COMMANDS], group) as subscription:
                    while True:
                        records = await subscription.fetch(max_records=FETCH_RECORDS, timeout=FETCH_SECONDS)
                        outage.recovered()
                        if records:
                            self.handle(records)
                            await subscription.commit(next_offsets(records))
            except BrokerUnavailable as error:
                await outage.failed(error)

    def handle(self, records: Sequence[Record]) -> None:
        """Set `wakeup` if one of the records is about a job that this process may run."""
        if any(self._may_run(record) for record in records):
            self.wakeup.set()

    def _may_run(self, record: Record) -> bool:
        try:
            command = _decoder.decode(record.value)
        except msgspec.MsgspecError:
            return False  # a command of another kind, or of a later release
        return command.job_type in self.job_types and command.runner in (None, self.service)
