"""A member of a consumer group: its loops, its retry scan and its look at the lag, from joining to leaving."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Generic

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker, PartitionShard, Subscription
from safevideo_common.broker.types import TopicPartition
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.inbox.consume_loop import ConsumeLoop, ConsumerLiveness, LoopLiveness
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded
from safevideo_common.inbox.handler import Event, States
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LagTrend
from safevideo_common.inbox.retention import InboxPruner
from safevideo_common.inbox.retries import RetryScanner
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import run_outbox_relay
from safevideo_common.service import background_task
from safevideo_common.tasks import unwrap_exception_group
from safevideo_common.web.app import base_app
from safevideo_common.web.health import HealthCheck

# Looks, every few seconds, how far a member is behind.


LAG_SECONDS: Final = 5.0


@dataclass(slots=True)
class LagMonitor:
    """Tells the metrics, the progress of each loop, and who works beside them, what lies ahead. Run by one task."""

    subscription: Subscription
    loops: Sequence[tuple[PartitionShard, LoopLiveness]]
    metrics: ConsumerMetrics
    live_lag: LagTrend
    _epoch: int = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._tell(await self._lag())
                await asyncio.sleep(LAG_SECONDS)
        finally:
            self.live_lag.sees(0)

    async def _lag(self) -> Mapping[TopicPartition, int]:
        try:
            return await self.subscription.lag()
        except BrokerUnavailable:
            return {}  # unknown: an absent series, not an old figure

    def _tell(self, lag: Mapping[TopicPartition, int]) -> None:
        self.metrics.lag(lag)
        self.live_lag.sees(sum(lag.values()))
        for share, progress in self.loops:
            progress.sees(sum(records for each, records in lag.items() if share.contains(each.partition)))
        self.metrics.rebalanced(self.subscription.generation - self._epoch)
        self._epoch = self.subscription.generation


@dataclass(frozen=True, slots=True)
class GroupMember(Generic[Event, States]):
    """Consumes `topics` as a member of the consumer's group."""

    broker: Broker
    topics: Sequence[str]
    consumer: ConsumerContext[Event, States]
    settings: ConsumerSettings
    progress: ConsumerLiveness

    async def run(self) -> None:
        """Until cancelled, or for good when too many events would die: then it leaves the group and does nothing more.

        It does not end then, since a process that ends is started again, and would bury more.
        """
        try:
            await self._consume()
        except DlqRateExceeded as limit:
            self._halt(str(limit))
        await asyncio.Event().wait()

    def _halt(self, reason: str) -> None:
        self.progress.halt(reason)
        self.consumer.metrics.halted()
        self.consumer.log.error("Consuming has halted", code="TOO_MANY_DEAD", reason=reason)

    async def _consume(self) -> None:
        group = self.consumer.group
        async with self.broker.subscribe(group, self.topics, group) as subscription:
            with unwrap_exception_group():
                async with asyncio.TaskGroup() as tasks:
                    self._start(subscription, tasks)

    def _start(self, subscription: Subscription, tasks: asyncio.TaskGroup) -> None:
        number = self.settings.consume_loops
        loops = [(PartitionShard(index, number), self.progress.begin()) for index in range(number)]
        for share, progress in loops:
            tasks.create_task(self._loop(subscription, share, progress).run(), name=f"consume-{share.index}")
        scan = RetryScanner(self.consumer, self.settings.retry_scan_seconds, self.settings.retry_tries)
        tasks.create_task(scan.run(), name="retry-scan")
        watch = LagMonitor(subscription, loops, self.consumer.metrics, self.consumer.lag)
        tasks.create_task(watch.run(), name="lag-watch")

    def _loop(
        self, subscription: Subscription, share: PartitionShard, progress: LoopLiveness
    ) -> ConsumeLoop[Event, States]:
        consumer = self.consumer
        return ConsumeLoop(
            subscription,
            share,
            BatchProcessor(consumer),
            self.settings.batch_records,
            progress,
            consumer.log,
            consumer.metrics,
        )


# A consumer as part of an app: the app of a worker, its database, and the tasks that consume and keep house.


DATABASE: Final = web.AppKey("database", Database)
PROGRESS: Final = web.AppKey("progress", ConsumerLiveness)


def build_worker_app(broker: Broker, log: FilteringBoundLogger, registry: CollectorRegistry) -> web.Application:
    """The base app of a worker: alive while its consumer makes progress, ready when database and log answer."""
    progress = ConsumerLiveness()

    async def probe_database() -> None:
        await app[DATABASE].probe()

    app = base_app(
        log,
        registry,
        alive=[HealthCheck("consumer", progress.check)],
        ready=[
            HealthCheck("database", probe_database),
            HealthCheck("log", broker.probe),
            HealthCheck("consumer", progress.check_consuming),
        ],
    )
    app[PROGRESS] = progress
    return app


@asynccontextmanager
async def open_worker_database(app: web.Application, settings: ConsumerSettings) -> AsyncIterator[Database]:
    """The database that `app` works on. Raises `SchemaBehind` for one that is not migrated, `DatabaseUnavailable`."""
    async with Database.open(settings.database_url.get_secret_value()) as database:
        await check_schema(database)
        app[DATABASE] = database
        yield database


@asynccontextmanager
async def run_consumer(
    app: web.Application,
    broker: Broker,
    topics: Sequence[str],
    consumer: ConsumerContext[Event, States],
    settings: ConsumerSettings,
) -> AsyncIterator[None]:
    """Consume `topics` beside a `build_worker_app`, as a member of its group, and relay what is told of it.

    The death of one of these tasks fails the app.
    """
    member = GroupMember(broker, topics, consumer, settings, app[PROGRESS])
    housekeeping = InboxPruner.of(consumer, settings)
    async with (
        broker.producer(f"{consumer.group}-outbox") as publisher,
        run_outbox_relay(
            app,
            consumer.database,
            publisher,
            consumer.outbox_stirred,
            consumer.clock,
            consumer.log,
            consumer.metrics.outbox,
        ),
        background_task(app, "consume", member.run()),
        background_task(app, "inbox-housekeeping", housekeeping.run()),
    ):
        yield


def dlq_limit_of(settings: ConsumerSettings) -> DlqLimit:
    """The limit on dying that the settings ask for."""
    return DlqLimit(settings.dead_share_limit, settings.dead_share_window, settings.dead_share_least)
