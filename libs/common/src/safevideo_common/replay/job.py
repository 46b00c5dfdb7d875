"""The handler of the job `event_replay`: it plans a replay and runs its partitions, a few at a time."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, Self

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker, Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded
from safevideo_common.inbox.group_member import LagTrend, dlq_limit_of
from safevideo_common.inbox.handler import Event, ReplayableHandler, States
from safevideo_common.inbox.processor import ConsumerContext, ProcessingPolicy
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.handler import JobContext, PermanentJobError
from safevideo_common.replay.apply import ApplyPartition
from safevideo_common.replay.context import PartitionReplay, ReplayContext
from safevideo_common.replay.dry_run import DryRunPartition
from safevideo_common.replay.metrics import ReplayMetrics
from safevideo_common.replay.plan import ReplayCheckpoint, parse_checkpoint, plan_replay
from safevideo_common.replay.policies import Force, MissingOnly
from safevideo_common.replay.request import ReplayParameters, parse_parameters
from safevideo_common.replay.throttle import Throttle
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import task_group

MAX_OUTAGE_ATTEMPTS: Final = 20
"""In a row without progress: about 90 seconds. Then the attempt of the job fails and is retried later."""
OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)
CONCURRENT_PARTITIONS: Final = 2
"""While one partition waits for the database, the other works."""
MAX_CONCURRENT_REPLAYS: Final = 3
"""Replays of one process. Others wait in the queue. The alert `JobsQueueLatencyHigh` has this number too."""


@dataclass(frozen=True, slots=True)
class ReplayJob(Generic[Event, States]):
    """The job handler of the worker whose events it replays. An interrupted replay continues at its checkpoint."""

    broker: Broker
    consumer: ConsumerContext[Event, States]
    handler: ReplayableHandler[Event, States]
    lag: LagTrend
    """The lag of the live flow."""
    new_dlq_limit: Callable[[], DlqLimit]
    """Each replay has its own limit: its dead letters must not halt the live flow."""
    metrics: ReplayMetrics

    @classmethod
    def of(
        cls, consumer: ConsumerContext[Event, States], handler: ReplayableHandler[Event, States], broker: Broker,
        lag: LagTrend, settings: ConsumerSettings, registry: CollectorRegistry,
    ) -> Self:  # fmt: skip
        """Create the handler of a worker. `handler` is the handler of `consumer`."""
        return cls(broker, consumer, handler, lag, partial(dlq_limit_of, settings), ReplayMetrics(registry))

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """Run the replay and return its result.

        Raise `PermanentJobError` for invalid parameters and if the DLQ limit is exceeded. Raise `ServiceUnavailable`
        if broker or database are unavailable for long.
        """
        request = self._parse_request(job)
        consumer = replace(self.consumer, dlq_limit=self.new_dlq_limit())
        client_id = f"{consumer.group}-replay-{job.job_id}"
        async with AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(self.broker.reader(f"{client_id}-{number}"))
                for number in range(CONCURRENT_PARTITIONS)
            ]
            checkpoint = await self._load_checkpoint(job, readers[0], request)
            progress = stack.enter_context(self.metrics.track(checkpoint, is_dry=request.dry_run))
            throttle = Throttle(request.events_per_second, self.lag, progress.record_wait)
            context = ReplayContext(job, request, consumer, self.handler, throttle, checkpoint, progress)
            await context.save()
            partitions = iter(context.remaining_partitions())
            try:
                async with task_group() as tasks:
                    for number, reader in enumerate(readers):
                        work = _replay_partitions(context, partitions, reader)
                        tasks.create_task(work, name=f"replay-{job.job_id}-{number}")
            except DlqRateExceeded as limit:
                raise PermanentJobError("TOO_MANY_DEAD", str(limit)) from None
        return context.result()

    def _parse_request(self, job: JobContext) -> ReplayParameters:
        try:
            request = parse_parameters(job.parameters)
        except ValueError as error:
            raise PermanentJobError("PARAMETERS_INVALID", str(error)) from None
        if request.target != self.consumer.group:
            raise PermanentJobError("PARAMETERS_INVALID", "the target is another worker")
        return request

    async def _load_checkpoint(self, job: JobContext, reader: Reader, request: ReplayParameters) -> ReplayCheckpoint:
        if job.cursor is not None:
            return parse_checkpoint(job.cursor)
        checkpoint = await plan_replay(reader, request, self.consumer.clock())
        if not checkpoint.coverage.is_complete:
            self.consumer.logger.warning(
                "Replay is incomplete, the topic does not have the whole range",
                code="REPLAY_INCOMPLETE",
                job_id=job.job_id,
                available_from=checkpoint.coverage.available_from,
            )
        return checkpoint


async def _replay_partitions(
    context: ReplayContext[Event, States], partitions: Iterator[TopicPartition], reader: Reader
) -> None:
    """Replay one partition after the other. Several tasks share `partitions`."""
    consumer = context.consumer
    work: PartitionReplay
    if context.request.dry_run:
        work = DryRunPartition(context)
    else:
        policy: ProcessingPolicy[Event, States] = MissingOnly(consumer)
        if context.request.force:
            policy = Force(consumer, context.handler, context.job.job_id)
        work = ApplyPartition(context, policy)
    for partition in partitions:
        await _retry_while_unavailable(context, work, partition, reader)


async def _retry_while_unavailable(
    context: ReplayContext[Event, States], work: PartitionReplay, partition: TopicPartition, reader: Reader
) -> None:
    failures = 0
    while True:
        position, end = context.remaining_range(partition)
        if position >= end:
            return
        try:
            await _skip_deleted(context, partition, reader)
            await work.run(partition, reader)
        except ServiceUnavailable:
            failures = 1 if context.remaining_range(partition)[0] > position else failures + 1
            if failures >= MAX_OUTAGE_ATTEMPTS:
                raise
            await asyncio.sleep(OUTAGE_BACKOFF.delay(failures))
            await context.job.raise_if_stopped()


async def _skip_deleted(context: ReplayContext[Event, States], partition: TopicPartition, reader: Reader) -> None:
    """Skip the records that retention has deleted. If all are deleted, there is nothing to read."""
    starts = await reader.start_offsets(context.request.topic)
    if partition in starts:  # otherwise the topic was created again, and reading raises the right error
        context.skip_deleted(partition, starts[partition])
