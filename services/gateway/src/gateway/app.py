"""The wiring of `gateway`: all its objects, in the order in which they depend on each other."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.audit.api import AuditApi
from gateway.events.api import EventsApi
from gateway.health.api import HealthApi
from gateway.health.checks import CachedHealthCheck, build_checks
from gateway.jobs.api import JobsApi
from gateway.metrics import GatewayMetrics
from gateway.performers.api import PerformersApi
from gateway.performers.cache import BestEffortCache
from gateway.performers.service import PerformerService
from gateway.quarantine.api import QuarantineApi
from gateway.quarantine.reverify import ReverifyService
from gateway.replays.api import ReplaysApi
from gateway.settings import GatewaySettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.authenticator import ApiKeyAuthenticator
from safevideo_common.auth.guard import Guard, guard
from safevideo_common.broker.port import Broker
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

# Every route of the gateway, with the role that it needs.


_ADMIN = "/api/v1/admin"


class Apis(NamedTuple):
    """The API of each feature."""

    health: HealthApi
    performers: PerformersApi
    events: EventsApi
    jobs: JobsApi
    replays: ReplaysApi
    quarantine: QuarantineApi
    audit: AuditApi


def routes(apis: Apis, require: Guard) -> list[web.RouteDef]:
    """Return the route table. A handler inside `require` needs at least that role."""
    return [
        web.get("/api/integration/health", apis.health.show),
        web.get("/api/v1/performers/{id}", require(Role.USER, apis.performers.show)),
        web.get(f"{_ADMIN}/events", require(Role.ADMIN, apis.events.list)),
        web.get(f"{_ADMIN}/events/{{id}}", require(Role.ADMIN, apis.events.show)),
        web.post(f"{_ADMIN}/events/redrive", require(Role.ADMIN, apis.events.redrive)),
        web.post(f"{_ADMIN}/events/{{id}}/retry", require(Role.ADMIN, apis.events.retry)),
        web.get(f"{_ADMIN}/webhooks/rejected", require(Role.ADMIN, apis.quarantine.list)),
        web.get(f"{_ADMIN}/webhooks/rejected/{{id}}", require(Role.ADMIN, apis.quarantine.show)),
        web.post(f"{_ADMIN}/webhooks/rejected/reverify", require(Role.ADMIN, apis.quarantine.reverify)),
        web.get(f"{_ADMIN}/jobs", require(Role.ADMIN, apis.jobs.list)),
        web.get(f"{_ADMIN}/jobs/{{id}}", require(Role.ADMIN, apis.jobs.show)),
        web.post(f"{_ADMIN}/jobs/{{id}}/retry", require(Role.ADMIN, apis.jobs.retry)),
        web.post(f"{_ADMIN}/jobs/{{id}}/cancel", require(Role.ADMIN, apis.jobs.cancel)),
        web.post(f"{_ADMIN}/replays", require(Role.ADMIN, apis.replays.start)),
        web.get(f"{_ADMIN}/audit", require(Role.ADMIN, apis.audit.list)),
    ]


SERVICE: Final = "gateway"

CACHE_DB: Final = 0
DATABASE_CONNECTIONS: Final = 10
DATABASE_SECONDS: Final = 5.0
"""The deadline of one read or transaction. Together with the wait for Redis it is less than `TOMBSTONE_SECONDS` of the
performer cache, so no old value is cached."""

DATABASE: Final = web.AppKey("database", Database)


def build_app(settings: GatewaySettings, broker: Broker, logger: FilteringBoundLogger) -> web.Application:
    """Make the service as an aiohttp application.

    Its start raises `SchemaBehind`, `StartupError` for a malformed `ENCRYPTION_KEY`, or `DatabaseUnavailable`. Without
    Redis and without the broker it starts, serves and is ready.
    """
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    app = base_app(logger, registry, ready=[HealthCheck("database", lambda: check_schema(app[DATABASE]))])

    async def current_secrets() -> Sequence[WebhookSecret]:
        return settings.webhook_secrets()

    async def serve(app: web.Application) -> AsyncIterator[None]:
        async with _connections(settings) as (database, redis, http):
            await check_schema(database)
            app[DATABASE] = database
            authenticator = ApiKeyAuthenticator(database, utc_now, logger)
            cache = BestEffortCache(PerformerCache(redis, seconds=settings.redis_timeout_seconds), logger)
            memory_limit = settings.memory_limit_mb << 20
            checks = build_checks(
                database, redis, broker, authenticator, http, settings.sharegram_api_url, memory_limit
            )
            async with (
                background_task(app, "api-key-uses", authenticator.write_uses()),
                CachedHealthCheck(checks, utc_now) as health,
                broker.producer(SERVICE) as producer,
            ):
                reverify = ReverifyService(
                    database, producer, settings.cipher(), SCHEMES["any"], current_secrets, clock=utc_now
                )
                notifier = JobNotifier(producer, utc_now)
                jobs = JobService(database, utc_now, notifier.notify)
                apis = Apis(
                    HealthApi(health),
                    PerformersApi(PerformerService(database, cache, metrics)),
                    EventsApi(database, RedriveService(database, utc_now), logger),
                    JobsApi(jobs, utc_now, logger),
                    ReplaysApi(jobs, logger),
                    QuarantineApi(database, reverify, logger),
                    AuditApi(database),
                )
                app.add_routes(routes(apis, guard(authenticator)))
                async with background_task(app, "job-notifier", notifier.run()):
                    yield

    app.cleanup_ctx.append(serve)
    return app


@asynccontextmanager
async def _connections(settings: GatewaySettings) -> AsyncIterator[tuple[Database, Redis, ClientSession]]:
    """Open the pools. Each connects when it is first used."""
    database_url, redis_url = settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    async with (
        Database.open(database_url, pool_size=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS) as database,
        open_redis(redis_url, CACHE_DB, seconds=settings.redis_timeout_seconds) as redis,
        ClientSession() as http,
    ):
        yield database, redis, http
