"""A member of a consumer group as part of a worker's app: consume loops, retry scan, lag monitor, relay and pruner."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final, Generic

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker, PartitionShard, Subscription
from safevideo_common.broker.types import TopicPartition
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.events.topic_checks import monitor_topics
from safevideo_common.inbox.consume_loop import ConsumeLoop, ConsumerLiveness, LoopLiveness
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded
from safevideo_common.inbox.handler import Event, EventHandler, States
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.inbox.retention import InboxPruner
from safevideo_common.inbox.retries import RetryScanner
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import Tracer
from safevideo_common.outbox.relay import run_outbox_relay
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.service import background_task
from safevideo_common.tasks import task_group
from safevideo_common.web.app import base_app
from safevideo_common.web.health import HealthCheck

SIGNIFICANT_LAG: Final = 1000
"""Records: two batches. Every burst causes a smaller lag."""
MEASURE_INTERVAL: Final = 5.0


class LagTrend:
    """The lag of a member: its latest two values. A replay pauses while the lag grows."""

    def __init__(self) -> None:
        self.latest = 0
        self._previous = 0

    def update(self, records: int) -> None:
        """Record the present lag; 0 if it is unknown, or if nobody consumes."""
        self._previous, self.latest = self.latest, records

    @property
    def is_growing(self) -> bool:
        """Return True if the member falls behind."""
        return self.latest > SIGNIFICANT_LAG and self.latest > self._previous


@dataclass(slots=True)
class LagMonitor:
    """Measures the lag for the metrics, for the liveness of each loop, and for replays. Run by one task."""

    subscription: Subscription
    loops: Sequence[tuple[PartitionShard, LoopLiveness]]
    metrics: ConsumerMetrics
    trend: LagTrend
    _generation: int = 0

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                self._publish(await self._lag())
                await asyncio.sleep(MEASURE_INTERVAL)
        finally:
            self.trend.update(0)

    async def _lag(self) -> Mapping[TopicPartition, int]:
        try:
            return await self.subscription.lag()
        except BrokerUnavailable:
            return {}  # unknown: no series instead of an old value

    def _publish(self, lag: Mapping[TopicPartition, int]) -> None:
        self.metrics.lag(lag)
        self.trend.update(sum(lag.values()))
        for shard, liveness in self.loops:
            liveness.update_lag(sum(records for each, records in lag.items() if shard.contains(each.partition)))
        self.metrics.rebalanced(self.subscription.generation - self._generation)
        self._generation = self.subscription.generation


@dataclass(frozen=True, slots=True)
class GroupMember(Generic[Event, States]):
    """A member of the consumer's group that consumes `topics`."""

    broker: Broker
    topics: Sequence[str]
    consumer: ConsumerContext[Event, States]
    settings: ConsumerSettings
    liveness: ConsumerLiveness
    lag: LagTrend

    async def run(self) -> None:
        """Consume until cancelled. Halt if the DLQ limit is exceeded: leave the group and do nothing more.

        A halted member does not end. A process that ends is started again and dead-letters more events.
        """
        try:
            await self._consume()
        except DlqRateExceeded as limit:
            self._halt(str(limit))
        await asyncio.Event().wait()

    def _halt(self, reason: str) -> None:
        self.liveness.halt(reason)
        self.consumer.metrics.halted()
        self.consumer.logger.error("Consumer halted: too many dead letters", code="TOO_MANY_DEAD", reason=reason)

    async def _consume(self) -> None:
        group = self.consumer.group
        try:
            async with self.broker.subscribe(group, self.topics, group) as subscription, task_group() as tasks:
                self._start(subscription, tasks)
        finally:
            self.liveness.stop()

    def _start(self, subscription: Subscription, tasks: asyncio.TaskGroup) -> None:
        consumer, settings = self.consumer, self.settings
        processor = BatchProcessor(consumer, LivePolicy(consumer))
        number = settings.consumer_concurrency
        loops = [(PartitionShard(index, number), self.liveness.start()) for index in range(number)]
        for shard, liveness in loops:
            loop = ConsumeLoop(
                subscription, shard, processor, settings.batch_records, liveness, consumer.logger, consumer.metrics
            )
            tasks.create_task(loop.run(), name=f"consume-{shard.index}")
        # With a limit of its own: these events are in the database already, so no topic empties into the dead letters.
        of_retries = replace(consumer, dlq_limit=dlq_limit_of(settings))
        scanner = RetryScanner(of_retries, settings.retry_scan_seconds, settings.retry_max_attempts)
        tasks.create_task(scanner.run(), name="retry-scan")
        tasks.create_task(LagMonitor(subscription, loops, consumer.metrics, self.lag).run(), name="lag-watch")


DATABASE: Final = web.AppKey("database", Database)
LIVENESS: Final = web.AppKey("liveness", ConsumerLiveness)


def build_worker_app(broker: Broker, logger: FilteringBoundLogger, registry: CollectorRegistry) -> web.Application:
    """Return the base app of a worker: alive while its consumer makes progress, ready if its dependencies are."""
    liveness = ConsumerLiveness()

    async def probe_database() -> None:
        await app[DATABASE].probe()

    app = base_app(
        logger,
        registry,
        alive=[HealthCheck("consumer", liveness.check)],
        ready=[
            HealthCheck("database", probe_database),
            HealthCheck("log", broker.probe),
            HealthCheck("consumer", liveness.check_consuming),
        ],
    )
    app[LIVENESS] = liveness
    return app


@asynccontextmanager
async def open_worker_database(app: web.Application, settings: ConsumerSettings) -> AsyncIterator[Database]:
    """Open the database of `app`. Raise `SchemaBehind` if it is not migrated, and `DatabaseUnavailable`."""
    async with Database.open(settings.database_url.get_secret_value()) as database:
        await check_schema(database)
        app[DATABASE] = database
        yield database


def build_consumer(
    group: str,
    handler: EventHandler[Event, States],
    database: Database,
    settings: ConsumerSettings,
    registry: CollectorRegistry,
    logger: FilteringBoundLogger,
    tracer: Tracer | None,
) -> ConsumerContext[Event, States]:
    """Return the parts of a worker's consumer group, as its settings say."""
    return ConsumerContext(
        group,
        handler,
        database,
        Backoff(settings.retry_initial_seconds, settings.retry_max_seconds),
        clock=utc_now,
        logger=logger,
        metrics=ConsumerMetrics(registry),
        dlq_limit=dlq_limit_of(settings),
        tracer=tracer,
    )


@asynccontextmanager
async def run_consumer(
    app: web.Application,
    broker: Broker,
    topics: Sequence[str],
    consumer: ConsumerContext[Event, States],
    settings: ConsumerSettings,
    lag: LagTrend,
) -> AsyncIterator[None]:
    """Consume `topics` beside a `build_worker_app`, relay the outbox, and prune the inbox.

    The supervisor of `app` has these tasks.
    """
    member = GroupMember(broker, topics, consumer, settings, app[LIVENESS], lag)
    pruner = InboxPruner(
        consumer.group,
        consumer.database,
        consumer.clock,
        consumer.logger,
        consumer.metrics.inbox,
        retention=timedelta(days=settings.inbox_retention_days),
        dead_retention=timedelta(days=settings.inbox_dead_days),
    )
    async with (
        broker.producer(f"{consumer.group}-outbox") as producer,
        run_outbox_relay(
            app,
            consumer.database,
            producer,
            broker.probe,
            consumer.outbox_wakeup,
            consumer.clock,
            consumer.logger,
            consumer.metrics.outbox,
            consumer.tracer,
        ),
        background_task(
            app, "topic-checks", partial(monitor_topics, broker, topics, consumer.logger, settings.inbox_retention_days)
        ),
        background_task(app, "consume", member.run),
        background_task(app, "inbox-housekeeping", pruner.run),
    ):
        yield


def dlq_limit_of(settings: ConsumerSettings) -> DlqLimit:
    """Return the DLQ limit of the settings."""
    return DlqLimit(settings.dlq_rate_limit, settings.dlq_rate_window, settings.dlq_rate_minimum)
