"""The wiring of `gateway`: every object it is made of, in the order in which they need each other."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.audit.api import AuditApi, BrowseAudit
from gateway.events.api import EventBrowser, EventsApi, RedriveApi
from gateway.health.api import HealthApi
from gateway.health.checks import CachedHealthCheck, build_checks
from gateway.jobs.api import JobsApi
from gateway.metrics import GatewayMetrics
from gateway.performers.api import PerformersApi
from gateway.performers.cache import BestEffortCache
from gateway.performers.service import PerformerService
from gateway.quarantine.api import BrowseRejected, QuarantineApi
from gateway.quarantine.reverify import ReleaseWebhooks, ReverifyRejected
from gateway.replays.api import ReplaysApi
from gateway.routes import Apis, routes
from gateway.settings import GatewaySettings
from safevideo_common.auth.authenticator import ApiKeyAuthenticator
from safevideo_common.auth.guard import guard
from safevideo_common.broker.port import Broker, Producer
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.inbox.redrive import RedriveService
from safevideo_common.jobs.notifications import JobNotifier
from safevideo_common.jobs.service import JobService
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import background_task
from safevideo_common.web.app import base_app
from safevideo_common.web.health import HealthCheck
from safevideo_common.webhooks.signatures import SCHEMES, WebhookSecret

SERVICE: Final = "gateway"

CACHE_DB: Final = 0
DATABASE_CONNECTIONS: Final = 10
DATABASE_SECONDS: Final = 5.0
"""For one question to the database in all. With a wait for Redis it is less than the performer cache's `MARK_SECONDS`:
nothing old is filled."""

DATABASE: Final = web.AppKey("database", Database)


def build_app(settings: GatewaySettings, broker: Broker, log: FilteringBoundLogger) -> web.Application:
    """The service as an aiohttp application.

    Its start raises `SchemaBehind`, `StartupError` for an `ENCRYPTION_KEY` that can be none, or `DatabaseUnavailable`
    when the database does not answer. It needs neither Redis nor the log: it starts, serves and is ready without them.
    """
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    app = base_app(log, registry, ready=[HealthCheck("database", lambda: check_schema(app[DATABASE]))])

    async def serve(app: web.Application) -> AsyncIterator[None]:
        async with _connections(settings) as (database, redis, http):
            await check_schema(database)
            app[DATABASE] = database
            keys = ApiKeyAuthenticator(database, utc_now, log)
            limit = settings.memory_limit_mb << 20
            parts = build_checks(database, redis, broker, keys, http, settings.sharegram_api_url, limit)
            cache = BestEffortCache(PerformerCache(redis, seconds=settings.redis_seconds), log)
            performers = PerformerService(database, cache, metrics)
            async with (
                background_task(app, "api-key-uses", keys.write_uses()),
                CachedHealthCheck(parts, utc_now) as examination,
                broker.producer(SERVICE) as publisher,
            ):
                reverify = _reverify(settings, database, publisher)
                announcer = JobNotifier(publisher, utc_now)
                administration = JobService(database, utc_now, announcer.notify)
                pages = Apis(
                    HealthApi(examination),
                    PerformersApi(performers),
                    EventsApi(EventBrowser(database)),
                    RedriveApi(RedriveService(database, utc_now), log),
                    JobsApi(administration, utc_now, log),
                    ReplaysApi(administration, log),
                    QuarantineApi(BrowseRejected(database), reverify, log),
                    AuditApi(BrowseAudit(database)),
                )
                app.add_routes(routes(pages, guard(keys)))
                async with background_task(app, "job-announcer", announcer.run()):
                    yield

    app.cleanup_ctx.append(serve)
    return app


def _reverify(settings: GatewaySettings, database: Database, publisher: Producer) -> ReverifyRejected:
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
