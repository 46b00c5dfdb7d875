"""The wiring of `webhook-ingest`: every object it is made of, in the order in which they need each other."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import background_task
from safevideo_common.web.app import add_buffered_post, base_app
from safevideo_common.web.health import HealthCheck
from safevideo_common.web.http_protocol import ServerLimits
from safevideo_common.web.server import LIMITS
from safevideo_common.webhooks.signatures import SCHEMES
from webhook_ingest.api import PATH, ReceiveWebhook
from webhook_ingest.metrics import IngestMetrics
from webhook_ingest.protection.limits import limits_of
from webhook_ingest.publishing.spooling_publisher import (
    SpoolingPublisher,
    SpoolOptions,
    open_publisher,
)
from webhook_ingest.quarantine import DatabaseQuarantine, QuarantineMetrics, QuarantineQueue
from webhook_ingest.quarantine.capture import NoQuarantine, Quarantine
from webhook_ingest.secrets import KeyRing, SecretRefresher, SecretUsageRecorder
from webhook_ingest.settings import IngestSettings

SERVICE = "webhook-ingest"

SAFE = web.AppKey("safe", SpoolingPublisher)

DATABASE_CONNECTIONS: Final = 2
DATABASE_SECONDS: Final = 5.0


def build_app(settings: IngestSettings, broker: Broker, log: FilteringBoundLogger) -> web.Application:
    """The service as an aiohttp application. It starts and serves without the log: events go to the spool then."""
    registry, within = CollectorRegistry(), settings.produce_seconds
    spool = SpoolOptions(settings.spool_dir, settings.spool_max_bytes, settings.spool_drain_seconds, within)

    async def can_keep_safe() -> None:
        await app[SAFE].check()

    metrics = IngestMetrics(registry)
    limits = limits_of(settings)
    metrics.watch_in_flight(lambda: limits.in_flight.now)
    app = base_app(
        log,
        registry,
        ready=[HealthCheck("log or spool", can_keep_safe)],
        max_body_bytes=settings.max_webhook_bytes,
    )
    app[LIMITS] = ServerLimits(
        header_timeout=settings.header_timeout_seconds,
        max_connections=settings.max_connections,
        reuse_port=settings.reuse_port,
        on_closed=metrics.connection_closed,
        admit=limits.admits_connection,
    )

    async def door(app: web.Application) -> AsyncIterator[None]:
        kept = _kept(app, settings, registry, log)
        async with (
            kept as (secrets, quarantine),
            broker.producer(SERVICE, acknowledged_within=within) as publisher,
            open_publisher(app, publisher, broker.probe, spool, log, registry) as safe,
        ):
            app[SAFE] = safe
            receive = ReceiveWebhook(
                settings,
                SCHEMES[settings.webhook_scheme],
                secrets,
                safe,
                quarantine,
                clock=utc_now,
                log=log,
                metrics=metrics,
                limits=limits,
            )
            add_buffered_post(app, PATH, receive.handle, receive.handle_buffered)
            yield

    app.cleanup_ctx.append(door)
    return app


@asynccontextmanager
async def _kept(
    app: web.Application, settings: IngestSettings, registry: CollectorRegistry, log: FilteringBoundLogger
) -> AsyncIterator[tuple[KeyRing, Quarantine]]:
    """What the database has a part in, off the requests' way. It may be away: the door opens without it."""
    url = settings.database_url.get_secret_value()
    ring, cipher = KeyRing(settings.webhook_secrets()), settings.cipher()
    async with AsyncExitStack() as parts:
        opening = Database.open(url, pool_size=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS)
        database = await parts.enter_async_context(opening)
        uses = SecretUsageRecorder(ring, database, log=log)
        await parts.enter_async_context(background_task(app, "webhook-secret-uses", uses.run()))
        if cipher is None:
            log.warning("Without ENCRYPTION_KEY: secrets of the database are not read, refused webhooks not kept")
            yield ring, NoQuarantine()
            return
        seconds = settings.secrets_refresh_seconds
        refresh = SecretRefresher(ring, database, cipher, clock=utc_now, log=log, seconds=seconds)
        await parts.enter_async_context(background_task(app, "webhook-secrets", refresh.run()))
        metrics = QuarantineMetrics(registry)
        intake = QuarantineQueue(settings.quarantine_per_minute, metrics)
        quarantine = DatabaseQuarantine(
            intake, database, cipher, settings.quarantine_bounds(), clock=utc_now, log=log, metrics=metrics
        )
        await parts.enter_async_context(background_task(app, "quarantine", quarantine.keep()))
        yield ring, quarantine
