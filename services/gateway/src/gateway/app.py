"""The wiring of `gateway`: all its objects, in the order in which they depend on each other."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.audit.api import AuditApi
from gateway.audit.retention import Retention
from gateway.documents.converter import DocumentConverter
from gateway.events.api import EventsApi
from gateway.health.api import HealthApi
from gateway.health.checks import CachedHealthCheck, build_checks
from gateway.health.sharegram import SharegramHealthProbe
from gateway.http.endpoint import Api, Endpoint
from gateway.http.guard import Guard
from gateway.http.idempotency import IdempotentRequests
from gateway.http.planned import planned_routes
from gateway.http.rate_limits import RateLimits, show_rate_limit
from gateway.integrations.api import IntegrationsApi
from gateway.integrations.configuration import IntegrationConfiguration
from gateway.integrations.secret_rotation import Encrypt, SecretRotation
from gateway.integrations.status import IntegrationStatus
from gateway.jobs.api import JobsApi
from gateway.kyc.api import KycApi
from gateway.kyc.records import KycRecordsApi
from gateway.kyc.service import KycService
from gateway.kyc.uploads import UploadService
from gateway.metrics import GatewayMetrics
from gateway.openapi.api import DocumentationApi
from gateway.performers.api import PerformersApi
from gateway.performers.cache import BestEffortCache
from gateway.performers.decisions_api import PerformerDecisionsApi
from gateway.performers.service import PerformerService
from gateway.performers.sync_api import PerformerSyncsApi
from gateway.protections.api import BreakersApi, FallbackApi, FlagsApi
from gateway.quarantine.api import QuarantineApi
from gateway.quarantine.reverify import ReverifyService
from gateway.replays.api import ReplaysApi
from gateway.settings import GatewaySettings
from gateway.sign_in.api import SignInApi
from gateway.sign_in.browser import BrowserSignInApi
from gateway.sign_in.pending import PendingSignIns
from gateway.sign_in.provider import IdentityProvider
from gateway.sign_in.service import SignInAudit, SignInService
from gateway.users.api import UsersApi
from gateway.users.holds import LegalHoldsApi
from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.authentication import RequestAuthenticator
from safevideo_common.auth.authenticator import ApiKeyAuthenticator
from safevideo_common.auth.sessions import SessionStore
from safevideo_common.broker.port import Broker
from safevideo_common.cache.invalidator import RedisCacheInvalidator
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.documents.files import EncryptedFiles, FolderStore
from safevideo_common.encryption import DecryptionFailed, EncryptionKeys, Purpose
from safevideo_common.inbox.redrive import RedriveService
from safevideo_common.jobs.notifications import JobNotifier
from safevideo_common.jobs.service import JobService
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.performer_sync.mirror import PerformerMirror
from safevideo_common.performer_sync.one import PerformerSync
from safevideo_common.performers.decisions import PerformerDecisions
from safevideo_common.privacy.holds import LegalHolds
from safevideo_common.protections.runtime import Protections, run_protections
from safevideo_common.protections.service import FlagService, ProtectionService
from safevideo_common.protections.store import SHAREGRAM
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.resilience.rate_limiter import RateLimiter
from safevideo_common.service import background_task
from safevideo_common.sharegram.client import SharegramClient, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.merge import UserMerges
from safevideo_common.web.app import base_app
from safevideo_common.web.client_address import ClientAddresses
from safevideo_common.web.health import HealthCheck
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.signatures import WebhookSecret

SERVICE: Final = "gateway"

CACHE_DB: Final = 0
DATABASE_CONNECTIONS: Final = 10
DATABASE_SECONDS: Final = 5.0
"""The deadline of one read or transaction. Together with the wait for Redis it is less than `TOMBSTONE_SECONDS` of the
performer cache, so no old value is cached."""

DATABASE: Final = web.AppKey("database", Database)
ENDPOINTS: Final = web.AppKey("endpoints", Sequence[Endpoint])
"""All endpoints, once the app has started."""


def build_app(settings: GatewaySettings, broker: Broker, logger: FilteringBoundLogger) -> web.Application:
    """Make the service as an aiohttp application.

    Its start raises `SchemaBehind`, `StartupError` for a malformed `ENCRYPTION_KEY`, or `DatabaseUnavailable`. Without
    Redis and without the broker it starts, serves and is ready.
    """
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    app = base_app(logger, registry, ready=[HealthCheck("database", lambda: check_schema(app[DATABASE]))])

    async def current_secrets() -> Sequence[WebhookSecret]:
        return [*settings.webhook_secrets(), *await _stored_secrets(app[DATABASE], settings.encryption_keys())]

    async def serve(app: web.Application) -> AsyncIterator[None]:
        async with _connections(settings) as (database, redis, sso_redis, http), AsyncExitStack() as stack:
            await check_schema(database)
            app[DATABASE] = database
            protections = await stack.enter_async_context(run_protections(app, settings, database, registry, logger))
            api_keys = ApiKeyAuthenticator(database, utc_now, logger)
            accounts = UserAccounts(database, utc_now)
            sessions = SessionStore(sso_redis, seconds=settings.redis_timeout_seconds)
            pending = PendingSignIns(sso_redis, seconds=settings.redis_timeout_seconds)
            providers = {
                name: IdentityProvider(name, each, http, utc_now, logger) for name, each in settings.providers().items()
            }
            tokens = AccessTokens(settings.jwt_secret.get_secret_value()) if settings.jwt_secret else None
            authenticator = RequestAuthenticator(api_keys, sessions, accounts, tokens, settings.public_url)
            audit = SignInAudit(database, utc_now, logger)
            sign_in = SignInService(
                providers, accounts, sessions, tokens, audit, metrics, logger, lambda: protections.is_sso_enabled
            )
            cache = BestEffortCache(PerformerCache(redis, seconds=settings.redis_timeout_seconds), logger)
            limiter_redis = FailFastRedis(redis, seconds=settings.redis_timeout_seconds)
            addresses = ClientAddresses(settings.trusted_networks())
            invalidator = RedisCacheInvalidator(PerformerCache(redis), logger)
            memory_limit = settings.memory_limit_mb << 20
            keys = StoredIdempotencyKeys(database, utc_now)
            async with (
                open_sharegram(settings, protections.around_calls, keys, registry, logger, utc_now) as sharegram,
                _sharegram_health(app, settings, sharegram, redis, protections) as sharegram_health,
                background_task(app, "api-key-uses", api_keys.write_uses()),
                background_task(app, "cache-invalidation", invalidator.run()),
                _fetching_keys(app, providers.values()),
                broker.producer(SERVICE) as producer,
                DocumentConverter.open() as converter,
                CachedHealthCheck(
                    build_checks(
                        database,
                        redis,
                        broker,
                        api_keys,
                        sharegram_health.latest,
                        memory_limit,
                        protections,
                    ),
                    utc_now,
                ) as health,
            ):
                encryption = settings.encryption_keys()
                reverify = ReverifyService(
                    database,
                    producer,
                    encryption.cipher(Purpose.QUARANTINED_WEBHOOK) if encryption else None,
                    settings.webhook_scheme,
                    current_secrets,
                    clock=utc_now,
                )
                notifier = JobNotifier(producer, utc_now)
                mirror = PerformerMirror(invalidator, utc_now)
                performer_sync = PerformerSync(database, sharegram, mirror, utc_now, logger)
                jobs = JobService(database, utc_now, notifier.notify)
                operations = ProtectionService(database, {SHAREGRAM: protections.shared_breaker}, utc_now)
                files, applicants = None, None
                if encryption:
                    files = EncryptedFiles(FolderStore(settings.upload_dir), encryption.cipher(Purpose.KYC_DOCUMENT))
                    applicants = encryption.cipher(Purpose.KYC_APPLICANT)
                kyc = KycService(database, applicants, utc_now, settings.kyc_rules(), notifier.notify)
                performers = PerformerService(database, cache, metrics)
                endpoints = all_endpoints(
                    HealthApi(health),
                    PerformersApi(performers, performer_sync, database),
                    PerformerDecisionsApi(performers, PerformerDecisions(database, invalidator, utc_now), utc_now),
                    PerformerSyncsApi(database, jobs, utc_now),
                    EventsApi(database, RedriveService(database, utc_now), logger),
                    JobsApi(jobs, utc_now, logger),
                    ReplaysApi(jobs, logger),
                    QuarantineApi(database, reverify, logger),
                    AuditApi(database),
                    SignInApi(sign_in, accounts, settings.public_url, utc_now),
                    BrowserSignInApi(sign_in, pending, authenticator, settings.public_url),
                    IntegrationsApi(
                        database,
                        IntegrationStatus(database, protections.integration, utc_now),
                        IntegrationConfiguration(
                            database,
                            protections.integration,
                            encryption.cipher(Purpose.SHAREGRAM_CREDENTIALS) if encryption else None,
                            operations,
                            utc_now,
                            has_environment_keys=settings.credentials() is not None,
                        ),
                        protections.integration,
                        SecretRotation(database, _encrypt_secret(settings), utc_now),
                        sharegram,
                        utc_now,
                        logger,
                    ),
                    KycApi(
                        kyc,
                        UploadService(kyc, converter, files, utc_now, logger),
                        protections.require_kyc,
                        utc_now,
                    ),
                    KycRecordsApi(kyc, database, applicants, files, utc_now, logger),
                    UsersApi(database, UserMerges(database, sessions, utc_now), logger),
                    LegalHoldsApi(database, LegalHolds(database, utc_now)),
                    BreakersApi(operations),
                    FallbackApi(operations),
                    FlagsApi(FlagService(database, protections.flag_store, utc_now)),
                )
                limits = RateLimits(RateLimiter(limiter_redis, prefix="ratelimit"), settings.rates(), addresses)
                idempotency_keys = IdempotentRequests(database)
                guard = Guard(authenticator, limits, idempotency_keys, addresses, metrics, logger)
                app[ENDPOINTS] = endpoints
                app.add_routes(planned_routes())
                app.add_routes([each.route(guard.protect(each)) for each in endpoints])
                retention = Retention(database, utc_now, logger, audit_days=settings.audit_retention_days)
                async with (
                    background_task(app, "job-notifier", notifier.run()),
                    background_task(app, "retention", retention.run()),
                ):
                    yield

    app.on_response_prepare.append(show_rate_limit)
    app.cleanup_ctx.append(serve)
    return app


def all_endpoints(*apis: Api) -> Sequence[Endpoint]:
    """Return the endpoints of all features, and those of the documentation about them."""
    endpoints = [endpoint for api in apis for endpoint in api.endpoints()]
    documentation = DocumentationApi(endpoints)
    return [*endpoints, *documentation.endpoints()]


async def _stored_secrets(database: Database, keys: EncryptionKeys | None) -> list[WebhookSecret]:
    """Return the valid secrets of the database that `keys` can decrypt, as `webhook-ingest` accepts them."""
    if keys is None:
        return []
    cipher = keys.cipher(Purpose.WEBHOOK_SECRET)
    async with database.read_connection() as reading:
        stored = await webhook_secrets.find_valid(reading, SHAREGRAM, utc_now())
    readable = []
    for each in stored:
        with suppress(DecryptionFailed, ValueError):
            readable.append(webhook_secrets.decrypt_secret(cipher, SHAREGRAM, each))
    return readable


def _encrypt_secret(settings: GatewaySettings) -> Encrypt | None:
    keys = settings.encryption_keys()
    if keys is None:
        return None
    cipher = keys.cipher(Purpose.WEBHOOK_SECRET)
    return lambda row, plain: cipher.encrypt(plain, row)


@asynccontextmanager
async def _sharegram_health(
    app: web.Application, settings: GatewaySettings, client: SharegramClient, redis: Redis, protections: Protections
) -> AsyncIterator[SharegramHealthProbe]:
    health = SharegramHealthProbe(client if settings.sharegram_api_url else None, FailFastRedis(redis), protections)
    async with background_task(app, "sharegram-health", health.run()):
        yield health


@asynccontextmanager
async def _fetching_keys(app: web.Application, providers: Iterable[IdentityProvider]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in providers:
            await stack.enter_async_context(background_task(app, f"signing-keys-{each.name}", each.keys.run()))
        yield


@asynccontextmanager
async def _connections(settings: GatewaySettings) -> AsyncIterator[tuple[Database, Redis, Redis, ClientSession]]:
    """Open the pools. Each connects when it is first used."""
    database_url, redis_url = settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    async with (
        Database.open(database_url, pool_size=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS) as database,
        open_redis(redis_url, CACHE_DB, seconds=settings.redis_timeout_seconds) as redis,
        open_redis(redis_url, settings.redis_sso_db, seconds=settings.redis_timeout_seconds) as sso_redis,
        ClientSession() as http,
    ):
        yield database, redis, sso_redis, http
