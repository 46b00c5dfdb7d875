"""The job `event_replay`."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, Self

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker, Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded
from safevideo_common.inbox.group_member import dlq_limit_of
from safevideo_common.inbox.handler import Event, ReplayableHandler, States
from safevideo_common.inbox.processor import ConsumerContext, ProcessingPolicy
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.handler import JobContext, PermanentJobError
from safevideo_common.replay.apply import ApplyPartition
from safevideo_common.replay.context import PartitionWork, ReplayContext
from safevideo_common.replay.dry_run import DryRunPartition
from safevideo_common.replay.metrics import ReplayMetrics
from safevideo_common.replay.plan import ReplayCheckpoint, parse_checkpoint, plan_replay
from safevideo_common.replay.policies import Force, missing_only
from safevideo_common.replay.request import ReplayParameters, parse_parameters
from safevideo_common.replay.throttle import Throttle
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import unwrap_exception_group

OUTAGE_TRIES: Final = 20
"""In a row, without any progress: about a minute and a half. Then the job is put off, which costs it a try."""
OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)
LANES: Final = 2
"""Partitions that a run is at, at once."""
MAX_CONCURRENT_REPLAYS: Final = 3
"""Replays that a process runs at once: those behind them wait in the queue. The alert `JobsWait` knows the number."""


@dataclass(frozen=True, slots=True)
class ReplayJob(Generic[Event, States]):
    """The job's handler in the worker whose events it replays. A run that was cut off goes on at its cursor."""

    broker: Broker
    consumer: ConsumerContext[Event, States]
    handler: ReplayableHandler[Event, States]
    dead_share: Callable[[], DlqLimit]
    """A limit of each run's own: what a replay buries must not halt the live flow."""
    metrics: ReplayMetrics

    @classmethod
    def of(
        cls, consumer: ConsumerContext[Event, States], handler: ReplayableHandler[Event, States], broker: Broker,
        settings: ConsumerSettings, registry: CollectorRegistry,
    ) -> Self:  # fmt: skip
        """That of a worker, which exports its metrics. `handler` is the consumer's, as what it is to a replay."""
        return cls(broker, consumer, handler, partial(dlq_limit_of, settings), ReplayMetrics(registry))

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """Replay what was asked for and say what was found.

        Raises `PermanentJobError` for parameters that make no sense and when too many events would be dead;
        `ServiceUnavailable` when log or database are away for long.
        """
        asked = self._asked(job)
        consumer = replace(self.consumer, dead_share=self.dead_share())
        async with AsyncExitStack() as stack:
            name = f"{consumer.group}-replay-{job.job_id}"
            readers = [await stack.enter_async_context(self.broker.reader(f"{name}-{n}")) for n in range(LANES)]
            cursor = await self._cursor(job, readers[0], asked)
            progress = stack.enter_context(self.metrics.watching(cursor, is_dry=asked.dry_run))
            pace = Throttle(asked.events_per_second, consumer.lag, progress.waited)
            run = ReplayContext(job, asked, consumer, self.handler, pace, cursor, progress)
            await run.save()
            try:
                await _all_partitions(run, readers)
            except DlqRateExceeded as limit:
                raise PermanentJobError("TOO_MANY_DEAD", str(limit)) from None
        return run.cursor.result(is_dry=asked.dry_run)

    def _asked(self, job: JobContext) -> ReplayParameters:
        try:
            asked = parse_parameters(job.parameters)
        except ValueError as error:
            raise PermanentJobError("PARAMETERS_INVALID", str(error)) from None
        if asked.target != self.consumer.group:
            raise PermanentJobError("PARAMETERS_INVALID", "the target is another worker")
        return asked

    async def _cursor(self, job: JobContext, reader: Reader, asked: ReplayParameters) -> ReplayCheckpoint:
        if job.cursor is not None:
            return parse_checkpoint(job.cursor)
        cursor = await plan_replay(reader, asked, self.consumer.clock())
        if not cursor.coverage.is_complete:
            self.consumer.log.warning(
                "Replay cannot have all that was asked for, the topic keeps less",
                code="REPLAY_INCOMPLETE",
                job_id=job.job_id,
                available_from=cursor.coverage.available_from,
            )
        return cursor


def _work(run: ReplayContext[Event, States]) -> PartitionWork:
    if run.asked.dry_run:
        return DryRunPartition(run)
    effect: ProcessingPolicy[Event, States] = Force(run.handler, run.job.job_id) if run.asked.force else missing_only
    return ApplyPartition(run, effect)


async def _all_partitions(run: ReplayContext[Event, States], readers: Sequence[Reader]) -> None:
    """Each reader's lane takes one partition after the other: while one waits for the database, the other works."""
    left = iter(run.cursor.left(run.asked.topic))
    with unwrap_exception_group():
        async with asyncio.TaskGroup() as tasks:
            for number, reader in enumerate(readers):
                tasks.create_task(_lane(run, left, reader), name=f"replay-{run.job.job_id}-{number}")


async def _lane(run: ReplayContext[Event, States], left: Iterator[TopicPartition], reader: Reader) -> None:
    work = _work(run)
    for partition in left:
        await _retry_while_unavailable(run, work, partition, reader)


async def _retry_while_unavailable(
    run: ReplayContext[Event, States], work: PartitionWork, partition: TopicPartition, reader: Reader
) -> None:
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
            await run.job.raise_if_stopped()


async def _skip_deleted(run: ReplayContext[Event, States], partition: TopicPartition, reader: Reader) -> None:
    """Retention may have overtaken the cursor: where it took all there is, there is nothing to wait for."""
    starts = await reader.start_offsets(run.asked.topic)
    if partition in starts:  # or the topic was made anew, and reading says what is wrong
        run.cursor.missed(partition.partition, starts[partition])
