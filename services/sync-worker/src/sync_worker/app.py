"""The wiring of `sync-worker`: every object it is made of, in the order in which they need each other."""

from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.events import topics
from safevideo_common.jobs.running import running_jobs
from safevideo_common.lifecycle import background
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.metrics import ConsumerMetrics
from safevideo_common.messaging.consuming.running import consuming, dead_share, worker_app, worker_database
from safevideo_common.messaging.port import EventLog
from safevideo_common.messaging.replay.parameters import JOB_TYPE
from safevideo_common.messaging.replay.replaying import AT_ONCE, ReplayEvents
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from sync_worker.adapters.cache_drops import CacheDrops
from sync_worker.handlers.performers import HandlePerformers
from sync_worker.settings import SyncWorkerSettings

SERVICE = topics.SYNC_WORKER
TOPICS = topics.CONSUMED[SERVICE]


def build_app(settings: SyncWorkerSettings, event_log: EventLog, log: FilteringBoundLogger) -> web.Application:
    """The service as an aiohttp application. It refuses to start on a schema that is behind."""
    registry = CollectorRegistry()
    app = worker_app(event_log, log, registry)

    async def consume(app: web.Application) -> AsyncIterator[None]:
        async with (
            worker_database(app, settings) as database,
            open_redis(settings.redis_url.get_secret_value(), db=0) as redis,
        ):
            drops = CacheDrops(PerformerCache(redis), log)
            handler = HandlePerformers(utc_now, drops)
            consumer = Consumer(
                SERVICE,
                handler,
                database,
                Backoff(settings.retry_initial_seconds, settings.retry_max_seconds),
                clock=utc_now,
                log=log,
                metrics=ConsumerMetrics(registry),
                dead_share=dead_share(settings),
            )
            jobs = {JOB_TYPE: ReplayEvents.of(consumer, handler, event_log, settings, registry)}
            async with (
                background(app, "cache-drops", drops.run()),
                consuming(app, event_log, TOPICS, consumer, settings),
                running_jobs(
                    app, SERVICE, jobs, event_log, settings, registry, log,
                    stirred=consumer.outbox_stirred, at_once={JOB_TYPE: AT_ONCE},
                ),
            ):
                yield

    app.cleanup_ctx.append(consume)
    return app
