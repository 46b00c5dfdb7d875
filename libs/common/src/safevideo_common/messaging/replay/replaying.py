"""The job `event_replay`."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, Self

from prometheus_client import CollectorRegistry

from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.handler import JobRun, PermanentJobError
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.dead_share import DeadShare, TooManyDead
from safevideo_common.messaging.consuming.effects import Effect
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.running import dead_share
from safevideo_common.messaging.consuming.settings import ConsumerSettings
from safevideo_common.messaging.port import EventLog, Reader, TopicPartition
from safevideo_common.messaging.replay.applying import Applying
from safevideo_common.messaging.replay.cursor import Cursor, cursor_of
from safevideo_common.messaging.replay.forcing import Again
from safevideo_common.messaging.replay.foreseeing import Foreseeing
from safevideo_common.messaging.replay.lacking import lacking
from safevideo_common.messaging.replay.metrics import ReplayMetrics
from safevideo_common.messaging.replay.pacing import Pace
from safevideo_common.messaging.replay.parameters import ReplayParameters, parameters_of
from safevideo_common.messaging.replay.port import Replayable
from safevideo_common.messaging.replay.run import PartitionWork, Run
from safevideo_common.messaging.replay.survey import survey
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.task_groups import first_error

OUTAGE_TRIES: Final = 20
"""In a row, without any progress: about a minute and a half. Then the job is put off, which costs it a try."""
OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)
LANES: Final = 2
"""Partitions that a run is at, at once."""
AT_ONCE: Final = 3
"""Replays that a process runs at once: those behind them wait in the queue. The alert `JobsWait` knows the number."""


@dataclass(frozen=True, slots=True)
class ReplayEvents(Generic[Event, States]):
    """The job's handler in the worker whose events it replays. A run that was cut off goes on at its cursor."""

    event_log: EventLog
    consumer: Consumer[Event, States]
    handler: Replayable[Event, States]
    dead_share: Callable[[], DeadShare]
    """A limit of each run's own: what a replay buries must not halt the live flow."""
    metrics: ReplayMetrics

    @classmethod
    def of(
        cls, consumer: Consumer[Event, States], handler: Replayable[Event, States], event_log: EventLog,
        settings: ConsumerSettings, registry: CollectorRegistry,
    ) -> Self:  # fmt: skip
        """That of a worker, which exports its metrics. `handler` is the consumer's, as what it is to a replay."""
        return cls(event_log, consumer, handler, partial(dead_share, settings), ReplayMetrics(registry))

    async def run(self, job: JobRun) -> Mapping[str, object]:
        """Replay what was asked for and say what was found.

        Raises `PermanentJobError` for parameters that make no sense and when too many events would be dead;
        `ServiceUnavailable` when log or database are away for long.
        """
        asked = self._asked(job)
        consumer = replace(self.consumer, dead_share=self.dead_share())
        async with AsyncExitStack() as stack:
            name = f"{consumer.group}-replay-{job.job_id}"
            readers = [await stack.enter_async_context(self.event_log.reader(f"{name}-{n}")) for n in range(LANES)]
            cursor = await self._cursor(job, readers[0], asked)
            progress = stack.enter_context(self.metrics.watching(cursor, is_dry=asked.dry_run))
            pace = Pace(asked.events_per_second, consumer.lag, progress.waited)
            run = Run(job, asked, consumer, self.handler, pace, cursor, progress)
            await run.save()
            try:
                await _all_partitions(run, readers)
            except TooManyDead as limit:
                raise PermanentJobError("TOO_MANY_DEAD", str(limit)) from None
        return run.cursor.result(is_dry=asked.dry_run)

    def _asked(self, job: JobRun) -> ReplayParameters:
        try:
            asked = parameters_of(job.parameters)
        except ValueError as error:
            raise PermanentJobError("PARAMETERS_INVALID", str(error)) from None
        if asked.target != self.consumer.group:
            raise PermanentJobError("PARAMETERS_INVALID", "the target is another worker")
        return asked

    async def _cursor(self, job: JobRun, reader: Reader, asked: ReplayParameters) -> Cursor:
        if job.cursor is not None:
            return cursor_of(job.cursor)
        cursor = await survey(reader, asked, self.consumer.clock())
        if not cursor.coverage.is_complete:
            self.consumer.log.warning(
                "Replay cannot have all that was asked for, the topic keeps less",
                code="REPLAY_INCOMPLETE",
                job_id=job.job_id,
                available_from=cursor.coverage.available_from,
            )
        return cursor


def _work(run: Run[Event, States]) -> PartitionWork:
    if run.asked.dry_run:
        return Foreseeing(run)
    effect: Effect[Event, States] = Again(run.handler, run.job.job_id) if run.asked.force else lacking
    return Applying(run, effect)


async def _all_partitions(run: Run[Event, States], readers: Sequence[Reader]) -> None:
    """Each reader's lane takes one partition after the other: while one waits for the database, the other works."""
    left = iter(run.cursor.left(run.asked.topic))
    with first_error():
        async with asyncio.TaskGroup() as tasks:
            for number, reader in enumerate(readers):
                tasks.create_task(_lane(run, left, reader), name=f"replay-{run.job.job_id}-{number}")


async def _lane(run: Run[Event, States], left: Iterator[TopicPartition], reader: Reader) -> None:
    work = _work(run)
    for partition in left:
        await _patiently(run, work, partition, reader)


async def _patiently(run: Run[Event, States], work: PartitionWork, partition: TopicPartition, reader: Reader) -> None:
    number, tries = str(partition.partition), 0
    while (reached := run.cursor.next[number]) < run.cursor.ends[number]:
        try:
            await _skip_deleted(run, partition, reader)
            await work.do(partition, reader)
        except ServiceUnavailable:
            tries = 1 if run.cursor.next[number] > reached else tries + 1
            if tries >= OUTAGE_TRIES:
                raise
            await asyncio.sleep(OUTAGE_BACKOFF.delay(tries))
            await run.job.check()


async def _skip_deleted(run: Run[Event, States], partition: TopicPartition, reader: Reader) -> None:
    """Retention may have overtaken the cursor: where it took all there is, there is nothing to wait for."""
    starts = await reader.start_offsets(run.asked.topic)
    if partition in starts:  # or the topic was made anew, and reading says what is wrong
        run.cursor.missed(partition.partition, starts[partition])
