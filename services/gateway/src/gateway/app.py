"""The wiring of `gateway`: every object it is made of, in the order in which they need each other."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.adapters.optional_cache import OptionalCache
from gateway.adapters.parts import parts_of
from gateway.handlers.audit import BrowseAudit
from gateway.handlers.events import BrowseEvents
from gateway.handlers.examination import SharedExamination
from gateway.handlers.performers import ReadPerformer
from gateway.handlers.quarantine import BrowseRejected
from gateway.handlers.releasing import ReleaseWebhooks
from gateway.handlers.reverify import ReverifyRejected
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.web.audit import AuditPages
from gateway.web.events import EventPages
from gateway.web.health import HealthPage
from gateway.web.jobs import JobPages
from gateway.web.performers import PerformerPages
from gateway.web.quarantine import QuarantinePages
from gateway.web.redriving import RedrivePages
from gateway.web.replays import ReplayPages
from gateway.web.routes import Pages, routes
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.jobs.administration import JobAdministration
from safevideo_common.jobs.announcing import Announcer
from safevideo_common.lifecycle import background
from safevideo_common.messaging.consuming.redriving import Redriving
from safevideo_common.messaging.port import EventLog, Publisher
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.webhook_signatures import SCHEMES, WebhookSecret
from safevideo_common.web.api_keys import ApiKeyAuthenticator
from safevideo_common.web.app import base_app
from safevideo_common.web.auth import guard
from safevideo_common.web.health import Check

SERVICE: Final = "gateway"

CACHE_DB: Final = 0
DATABASE_CONNECTIONS: Final = 10
DATABASE_SECONDS: Final = 5.0
"""For one question to the database in all. With a wait for Redis it is less than the performer cache's `MARK_SECONDS`:
nothing old is filled."""

DATABASE: Final = web.AppKey("database", Database)


def build_app(settings: GatewaySettings, event_log: EventLog, log: FilteringBoundLogger) -> web.Application:
    """The service as an aiohttp application.

    Its start raises `SchemaBehind`, `StartupError` for an `ENCRYPTION_KEY` that can be none, or `DatabaseUnavailable`
    when the database does not answer. It needs neither Redis nor the log: it starts, serves and is ready without them.
    """
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    app = base_app(log, registry, ready=[Check("database", lambda: check_schema(app[DATABASE]))])

    async def serve(app: web.Application) -> AsyncIterator[None]:
        async with _connections(settings) as (database, redis, http):
            await check_schema(database)
            app[DATABASE] = database
            keys = ApiKeyAuthenticator(database, utc_now, log)
            limit = settings.memory_limit_mb << 20
            parts = parts_of(database, redis, event_log, keys, http, settings.sharegram_api_url, limit)
            cache = OptionalCache(PerformerCache(redis, seconds=settings.redis_seconds), log)
            performers = ReadPerformer(database, cache, metrics)
            async with (
                background(app, "api-key-uses", keys.write_uses()),
                SharedExamination(parts, utc_now) as examination,
                event_log.publisher(SERVICE) as publisher,
            ):
                reverify = _reverify(settings, database, publisher)
                announcer = Announcer(publisher, utc_now)
                administration = JobAdministration(database, utc_now, announcer.tell)
                pages = Pages(
                    HealthPage(examination),
                    PerformerPages(performers),
                    EventPages(BrowseEvents(database)),
                    RedrivePages(Redriving(database, utc_now), log),
                    JobPages(administration, utc_now, log),
                    ReplayPages(administration, log),
                    QuarantinePages(BrowseRejected(database), reverify, log),
                    AuditPages(BrowseAudit(database)),
                )
                app.add_routes(routes(pages, guard(keys)))
                async with background(app, "job-announcer", announcer.run()):
                    yield

    app.cleanup_ctx.append(serve)
    return app


def _reverify(settings: GatewaySettings, database: Database, publisher: Publisher) -> ReverifyRejected:
    async def present() -> Sequence[WebhookSecret]:
        return settings.webhook_secrets()

    release = ReleaseWebhooks(database, publisher, utc_now)
    return ReverifyRejected(database, release, settings.cipher(), SCHEMES["any"], present, clock=utc_now)


@asynccontextmanager
async def _connections(settings: GatewaySettings) -> AsyncIterator[tuple[Database, Redis, ClientSession]]:
    """Pools that connect when they are first used."""
    database_url, redis_url = settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    async with (
        Database.open(database_url, pool_size=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS) as database,
        open_redis(redis_url, CACHE_DB, seconds=settings.redis_seconds) as redis,
        ClientSession() as http,
    ):
        yield database, redis, http
