"""The wiring of webhook-ingest: all its objects, in the order of their dependencies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.encryption import Purpose
from safevideo_common.events.topic_checks import monitor_topics
from safevideo_common.events.topics import KYC, OTHER, PERFORMER
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import open_tracer
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.service import background_task
from safevideo_common.tasks import running_task
from safevideo_common.web.app import add_buffered_post, base_app
from safevideo_common.web.health import HealthCheck
from safevideo_common.web.http_protocol import ServerLimits
from safevideo_common.web.server import LIMITS
from safevideo_common.webhooks.signatures import SCHEMES
from safevideo_common.webhooks.spool_reports import SpoolReports
from webhook_ingest.api import PATH, ReceiveWebhook
from webhook_ingest.metrics import IngestMetrics
from webhook_ingest.protection.limits import Limits
from webhook_ingest.publishing import SpoolOptions, open_drainer, open_publisher
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.quarantine import QuarantineMetrics, QuarantineQueue, QuarantineWriter
from webhook_ingest.secrets import KeyRing, SecretRefresher, SecretUsageRecorder
from webhook_ingest.settings import IngestSettings
from webhook_ingest.spool.directory import list_directories
from webhook_ingest.spool.reporting import SpoolEvents, SpoolReporter

SERVICE = "webhook-ingest"

PUBLISHER = web.AppKey("publisher", SpoolingPublisher)

RECEIVED: Final = (KYC, PERFORMER, OTHER)
"""The topics that a 200 rests on."""

DATABASE_CONNECTIONS: Final = 2
DATABASE_SECONDS: Final = 5.0
DELIVERY_POLL_SECONDS: Final = 0.2
REDIS_SECONDS: Final = 1.0
"""No request waits for Redis."""


def build_app(settings: IngestSettings, broker: Broker, logger: FilteringBoundLogger) -> web.Application:
    """Return the service as an aiohttp application. While Kafka is unavailable it serves and spools webhooks."""
    registry, timeout = CollectorRegistry(), settings.produce_timeout_seconds
    spool = SpoolOptions(settings.spool_dir, settings.spool_max_bytes, settings.spool_drain_seconds, timeout)

    async def check_publisher() -> None:
        await app[PUBLISHER].check()

    metrics = IngestMetrics(registry)
    limits = Limits(settings)
    metrics.watch_in_flight(lambda: limits.in_flight.count)
    app = base_app(
        logger,
        registry,
        ready=[HealthCheck("broker or spool", check_publisher)],
        max_body_bytes=settings.max_webhook_bytes,
    )
    app[LIMITS] = ServerLimits(
        header_timeout=settings.header_timeout_seconds,
        max_connections=settings.max_connections,
        max_unfinished_bytes=2 * settings.slow_body_buffer_bytes,
        reuse_port=settings.reuse_port,
        on_closed=metrics.connection_closed,
        admit=limits.admits_connection,
    )

    async def endpoint(app: web.Application) -> AsyncIterator[None]:
        observer = SpoolEvents(logger, registry)
        async with (
            _open_database_parts(app, settings, registry, logger) as (key_ring, quarantine),
            _open_spool_reporter(settings, logger) as reporter,
            broker.producer(SERVICE, acknowledged_within=timeout) as producer,
            open_publisher(app, producer, broker.probe, spool, logger, observer) as publisher,
            background_task(app, "spool-report", partial(reporter.run, publisher.depth)),
            background_task(app, "topic-checks", partial(monitor_topics, broker, RECEIVED, logger)),
            open_tracer(settings, SERVICE, logger) as tracer,
        ):
            app[PUBLISHER] = publisher
            receive = ReceiveWebhook(
                settings,
                SCHEMES[settings.webhook_scheme],
                key_ring,
                publisher,
                quarantine,
                clock=utc_now,
                logger=logger,
                metrics=metrics,
                limits=limits,
                tracer=tracer,
            )
            add_buffered_post(app, PATH, receive.handle, receive.handle_buffered)
            yield

    app.cleanup_ctx.append(endpoint)
    return app


async def deliver_spool(settings: IngestSettings, broker: Broker, logger: FilteringBoundLogger) -> list[Path]:
    """Deliver all events of dead processes in SPOOL_DIR. Return the directories that it could not empty.

    Those are in use by a process that lives, or unreadable. Events that Kafka never takes are in `corrupt/` afterwards.
    """
    observer, timeout = SpoolEvents(logger, CollectorRegistry()), settings.produce_timeout_seconds
    options = SpoolOptions(settings.spool_dir, settings.spool_max_bytes, 0, timeout)
    async with (
        _open_spool_reporter(settings, logger) as reporter,
        broker.producer(SERVICE, acknowledged_within=timeout) as producer,
        open_drainer(producer, broker.probe, options, logger, observer) as (publisher, drainer),
        running_task(drainer.run(), "spool") as draining,
        running_task(reporter.run(publisher.depth), "spool-report"),
    ):
        logger.info("Spool delivery started", events=publisher.depth().events)
        while publisher.depth().events and not draining.done():
            await asyncio.wait([draining], timeout=DELIVERY_POLL_SECONDS)
        if draining.done():
            draining.result()
    left = await asyncio.to_thread(list_directories, settings.spool_dir)
    logger.info("Spool delivery ended", directories=len(left))
    return left


@asynccontextmanager
async def _open_spool_reporter(settings: IngestSettings, logger: FilteringBoundLogger) -> AsyncIterator[SpoolReporter]:
    """Connect to Redis, and write the last report at the end. Open it before the publisher, which drains at its end."""
    async with open_redis(settings.redis_url.get_secret_value(), 0, seconds=REDIS_SECONDS) as redis:
        reports = SpoolReports(FailFastRedis(redis, seconds=REDIS_SECONDS))
        async with aclosing(SpoolReporter(reports, settings.spool_dir, logger)) as reporter:
            yield reporter


@asynccontextmanager
async def _open_database_parts(
    app: web.Application, settings: IngestSettings, registry: CollectorRegistry, logger: FilteringBoundLogger
) -> AsyncIterator[tuple[KeyRing, QuarantineQueue | None]]:
    """Run the tasks that use the database. No request waits for them, and the database may be unavailable."""
    url = settings.database_url.get_secret_value()
    key_ring, keys = KeyRing(settings.webhook_secrets()), settings.encryption_keys()
    async with AsyncExitStack() as stack:
        opening = Database.open(url, pool_size=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS)
        database = await stack.enter_async_context(opening)
        usage = SecretUsageRecorder(key_ring, database, logger=logger)
        await stack.enter_async_context(background_task(app, "webhook-secret-uses", usage.run))
        if keys is None:
            logger.warning("No ENCRYPTION_KEY: secrets of the database not used, rejected webhooks not stored")
            yield key_ring, None
            return
        cipher, seconds = keys.cipher(Purpose.WEBHOOK_SECRET), settings.secrets_refresh_seconds
        refresher = SecretRefresher(key_ring, database, cipher, clock=utc_now, logger=logger, seconds=seconds)
        await stack.enter_async_context(background_task(app, "webhook-secrets", refresher.run))
        metrics = QuarantineMetrics(registry)
        queue = QuarantineQueue(settings.quarantine_per_minute, metrics)
        writer = QuarantineWriter(
            queue,
            database,
            keys.cipher(Purpose.QUARANTINED_WEBHOOK),
            settings.quarantine_limits(),
            clock=utc_now,
            logger=logger,
            metrics=metrics,
        )
        await stack.enter_async_context(background_task(app, "quarantine", writer.run))
        yield key_ring, queue
