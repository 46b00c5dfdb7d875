"""The wiring of `sync-worker`: all its objects, in the order of their dependencies."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker
from safevideo_common.cache.invalidator import RedisCacheInvalidator
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.events import topics
from safevideo_common.inbox.group_member import (
    LagTrend,
    build_consumer,
    build_worker_app,
    open_worker_database,
    run_consumer,
)
from safevideo_common.inbox.processor import ConsumerContext
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.runtime import run_job_worker
from safevideo_common.jobs.scheduler import PERIODIC_JOBS, Interval, PeriodicJob
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import open_tracer
from safevideo_common.performer_sync.mirror import PerformerMirror
from safevideo_common.performer_sync.request import FETCH_JOB, SYNC_JOB, SyncParameters
from safevideo_common.performers.decisions import PerformerDecisions, SuspensionEnder
from safevideo_common.protections.gate import JOB_TYPES as SHAREGRAM_JOBS
from safevideo_common.protections.gate import FeatureGate, SharegramGate
from safevideo_common.protections.integration import SharegramIntegration
from safevideo_common.protections.runtime import run_protections
from safevideo_common.replay.job import MAX_CONCURRENT_REPLAYS, ReplayJob
from safevideo_common.replay.request import JOB_TYPE
from safevideo_common.service import background_task
from safevideo_common.sharegram.client import SharegramClient, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from sync_worker.performers.deletions import Deletions
from sync_worker.performers.fetch_job import PerformerFetchJob
from sync_worker.performers.handler import PerformerEvent, PerformerHandler, PerformerStates
from sync_worker.performers.metrics import SyncMetrics
from sync_worker.performers.scan_job import PerformerSyncJob
from sync_worker.settings import SyncWorkerSettings

SERVICE = topics.SYNC_WORKER
TOPICS = topics.CONSUMED[SERVICE]


def build_app(settings: SyncWorkerSettings, broker: Broker, logger: FilteringBoundLogger) -> web.Application:
    """Return the service as an aiohttp application. It does not start if the database is not migrated."""
    registry = CollectorRegistry()
    app = build_worker_app(broker, logger, registry)

    async def consume(app: web.Application) -> AsyncIterator[None]:
        async with (
            open_worker_database(app, settings) as database,
            open_redis(settings.redis_url.get_secret_value(), db=0) as redis,
            run_protections(app, settings, database, registry, logger) as protections,
            open_tracer(settings, SERVICE, logger) as tracer,
        ):
            gate = SharegramGate(protections.breaker, protections.fallback, protections.integration)
            cache = RedisCacheInvalidator(PerformerCache(redis), logger)
            handler = PerformerHandler(utc_now, cache, fetches=bool(settings.sharegram_api_url))
            consumer = build_consumer(SERVICE, handler, database, settings, registry, logger, tracer)
            lag = LagTrend()
            keys = StoredIdempotencyKeys(database, utc_now)
            decisions = PerformerDecisions(database, cache, utc_now, consumer.outbox_wakeup)
            suspensions = SuspensionEnder(decisions, logger)
            async with (
                open_sharegram(settings, protections.around_calls, keys, registry, logger, utc_now) as sharegram,
                background_task(app, "cache-invalidation", cache.run),
                background_task(app, "suspensions", suspensions.run),
                run_consumer(app, broker, TOPICS, consumer, settings, lag),
                run_job_worker(
                    app,
                    SERVICE,
                    {
                        JOB_TYPE: ReplayJob.of(consumer, handler, broker, lag, settings, registry),
                        **_sync_jobs(settings, consumer, sharegram, PerformerMirror(cache, utc_now), registry),
                    },
                    broker,
                    settings,
                    registry,
                    logger,
                    outbox_wakeup=consumer.outbox_wakeup,
                    tracer=tracer,
                    periodic_jobs=_periodic_jobs(settings, protections.integration),
                    concurrency_by_type={JOB_TYPE: MAX_CONCURRENT_REPLAYS, SYNC_JOB: 1, FETCH_JOB: 1},
                    gates=dict.fromkeys(SHAREGRAM_JOBS, FeatureGate(gate, lambda: protections.is_sync_enabled)),
                ),
            ):
                yield

    app.cleanup_ctx.append(consume)
    return app


def _sync_jobs(
    settings: SyncWorkerSettings,
    consumer: ConsumerContext[PerformerEvent, PerformerStates],
    sharegram: SharegramClient,
    mirror: PerformerMirror,
    registry: CollectorRegistry,
) -> Mapping[str, JobHandler]:
    database = consumer.database
    return {
        SYNC_JOB: PerformerSyncJob(
            database,
            sharegram,
            mirror,
            Deletions(database, sharegram, mirror, settings.sync_max_deletion_share),
            utc_now,
            consumer.logger,
            consumer.outbox_wakeup,
            SyncMetrics(registry, utc_now),
        ),
        FETCH_JOB: PerformerFetchJob(database, sharegram, mirror),
    }


def _periodic_jobs(settings: SyncWorkerSettings, integration: SharegramIntegration) -> Sequence[PeriodicJob]:
    """Return the jobs of every service, and the incremental sync where Sharegram is configured."""
    if not settings.sharegram_api_url:
        return PERIODIC_JOBS
    every = Interval(partial(integration.sync_interval, timedelta(seconds=settings.sync_interval_seconds)))
    return (*PERIODIC_JOBS, PeriodicJob("performer-sync", SYNC_JOB, every, SyncParameters().document()))
