"""The wiring of `gateway`: all its objects, in the order in which they depend on each other."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
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
from gateway.health.spools import OrphanedSpoolMonitor
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
from gateway.sign_in.service import SignInService, SignOutAudit
from gateway.users.accounts_api import AccountsApi
from gateway.users.api import UsersApi
from gateway.users.holds import LegalHoldsApi
from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.authentication import RequestAuthenticator
from safevideo_common.auth.authenticator import ApiKeyAuthenticator
from safevideo_common.auth.session_uses import SessionUses
from safevideo_common.auth.sessions import SessionStore
from safevideo_common.broker.port import BatchProducer, Broker
from safevideo_common.cache.invalidator import RedisCacheInvalidator
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.documents.files import EncryptedFiles
from safevideo_common.documents.open import open_file_store
from safevideo_common.encryption import DecryptionFailed, EncryptionKeys, Purpose
from safevideo_common.inbox.redrive import RedriveService
from safevideo_common.jobs.notifications import JobNotifier
from safevideo_common.jobs.service import JobService
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import Tracer, open_tracer
from safevideo_common.performer_sync.mirror import PerformerMirror
from safevideo_common.performer_sync.one import PerformerSync
from safevideo_common.performers.decisions import PerformerDecisions
from safevideo_common.privacy.holds import LegalHolds
from safevideo_common.protections.runtime import Protections, run_protections
from safevideo_common.protections.service import FlagService, ProtectionService
from safevideo_common.protections.store import SHAREGRAM
from safevideo_common.protections.webhook_registration import WebhookRegistration
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.resilience.rate_limiter import RateLimiter
from safevideo_common.service import background_task
from safevideo_common.sharegram.client import SharegramClient, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.merge import UserMerges
from safevideo_common.users.rights import UserRights
from safevideo_common.web.app import base_app
from safevideo_common.web.client_address import ClientAddresses
from safevideo_common.web.health import HealthCheck
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.signatures import WebhookSecret
from safevideo_common.webhooks.spool_reports import SpoolReports

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
    app = base_app(logger, registry, ready=[HealthCheck("database", lambda: check_schema(app[DATABASE]))])

    async def serve(app: web.Application) -> AsyncIterator[None]:
        async with (
            _connections(settings) as (database, redis, sso_redis, http),
            _shared(app, settings, broker, (database, redis), registry, logger) as shared,
            _sign_in(app, shared, sso_redis, http) as (sign_in, authenticator, api_keys),
            _health(app, shared, broker, redis, api_keys) as health,
            DocumentConverter.open() as converter,
            open_tracer(settings, SERVICE, logger) as tracer,
        ):
            endpoints = all_endpoints(
                *(HealthApi(health), *sign_in),
                *(*_performers(shared, redis), *_kyc(shared, converter)),
                *(*_operations(shared), *_integrations(shared)),
                LegalHoldsApi(database, LegalHolds(database, utc_now)),
            )
            guard = _guard(shared, redis, authenticator, tracer)
            app[ENDPOINTS] = endpoints
            app.add_routes(planned_routes())
            app.add_routes([each.route(guard.protect(each)) for each in endpoints])
            retention = Retention(database, utc_now, logger, audit_days=settings.audit_retention_days)
            async with background_task(app, "retention", retention.run):
                yield

    app.on_response_prepare.append(show_rate_limit)
    app.cleanup_ctx.append(serve)
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """The objects that several features use."""

    settings: GatewaySettings
    database: Database
    protections: Protections
    sharegram: SharegramClient
    producer: BatchProducer
    invalidator: RedisCacheInvalidator
    notifier: JobNotifier
    jobs: JobService
    operations: ProtectionService
    encryption: EncryptionKeys | None
    metrics: GatewayMetrics
    registry: CollectorRegistry
    logger: FilteringBoundLogger


@asynccontextmanager
async def _shared(
    app: web.Application,
    settings: GatewaySettings,
    broker: Broker,
    connections: tuple[Database, Redis],
    registry: CollectorRegistry,
    logger: FilteringBoundLogger,
) -> AsyncIterator[_Shared]:
    database, redis = connections
    await check_schema(database)
    app[DATABASE] = database
    keys = StoredIdempotencyKeys(database, utc_now)
    invalidator = RedisCacheInvalidator(PerformerCache(redis), logger)
    async with (
        run_protections(app, settings, database, registry, logger) as protections,
        open_sharegram(settings, protections.around_calls, keys, registry, logger, utc_now) as sharegram,
        background_task(app, "cache-invalidation", invalidator.run),
        broker.producer(SERVICE) as producer,
    ):
        notifier = JobNotifier(producer, utc_now)
        async with background_task(app, "job-notifier", notifier.run):
            yield _Shared(
                settings=settings,
                database=database,
                protections=protections,
                sharegram=sharegram,
                producer=producer,
                invalidator=invalidator,
                notifier=notifier,
                jobs=JobService(database, utc_now, notifier.notify),
                operations=ProtectionService(database, {SHAREGRAM: protections.shared_breaker}, utc_now),
                encryption=settings.encryption_keys(),
                metrics=GatewayMetrics(registry),
                registry=registry,
                logger=logger,
            )


@asynccontextmanager
async def _sign_in(
    app: web.Application, shared: _Shared, redis: Redis, http: ClientSession
) -> AsyncIterator[tuple[Sequence[Api], RequestAuthenticator, ApiKeyAuthenticator]]:
    settings, database, logger = shared.settings, shared.database, shared.logger
    api_keys = ApiKeyAuthenticator(database, utc_now, logger)
    accounts = UserAccounts(database, utc_now)
    sessions = SessionStore(redis, seconds=settings.redis_timeout_seconds)
    pending = PendingSignIns(redis, seconds=settings.redis_timeout_seconds)
    providers = {
        name: IdentityProvider(name, each, http, utc_now, logger) for name, each in settings.providers().items()
    }
    tokens = AccessTokens(settings.jwt_secret.get_secret_value()) if settings.jwt_secret else None
    uses = SessionUses(redis, utc_now, seconds=settings.redis_timeout_seconds)
    authenticator = RequestAuthenticator(api_keys, sessions, accounts, tokens, settings.public_url, uses.note)
    audit = SignOutAudit(database, utc_now, logger)
    sign_in = SignInService(
        providers, accounts, sessions, tokens, audit, utc_now, shared.metrics, logger,
        lambda: shared.protections.is_sso_enabled,
    )  # fmt: skip
    apis: Sequence[Api] = [
        SignInApi(sign_in, accounts, settings.public_url, utc_now),
        BrowserSignInApi(sign_in, pending, authenticator, settings.public_url),
        AccountsApi(database, sessions, UserRights(database, utc_now, accounts.forget), utc_now, logger),
        UsersApi(database, UserMerges(database, sessions, utc_now), logger),
    ]
    async with (
        background_task(app, "api-key-uses", api_keys.write_uses),
        background_task(app, "session-uses", uses.run),
        _fetching_keys(app, providers.values()),
    ):
        yield apis, authenticator, api_keys


@asynccontextmanager
async def _health(
    app: web.Application, shared: _Shared, broker: Broker, redis: Redis, api_keys: ApiKeyAuthenticator
) -> AsyncIterator[CachedHealthCheck]:
    settings, protections = shared.settings, shared.protections
    client = shared.sharegram if settings.sharegram_api_url else None
    fail_fast = FailFastRedis(redis)
    probe = SharegramHealthProbe(client, fail_fast, protections)
    memory_limit = settings.memory_limit_mb << 20
    spools = SpoolReports(fail_fast)
    checks = build_checks(shared.database, redis, broker, api_keys, probe.latest, memory_limit, protections, spools)
    orphaned = OrphanedSpoolMonitor(spools, shared.registry, shared.logger)
    async with (
        background_task(app, "sharegram-health", probe.run),
        background_task(app, "orphaned-spools", orphaned.run),
        CachedHealthCheck(checks, utc_now) as health,
    ):
        yield health


def _guard(shared: _Shared, redis: Redis, authenticator: RequestAuthenticator, tracer: Tracer | None) -> Guard:
    settings = shared.settings
    addresses = ClientAddresses(settings.trusted_networks())
    limiter = RateLimiter(FailFastRedis(redis, seconds=settings.redis_timeout_seconds), prefix="ratelimit")
    limits = RateLimits(limiter, settings.rates(), addresses)
    requests = IdempotentRequests(shared.database)
    return Guard(authenticator, limits, requests, addresses, shared.metrics, shared.logger, tracer)


def _performers(shared: _Shared, redis: Redis) -> Sequence[Api]:
    database, invalidator = shared.database, shared.invalidator
    cache = BestEffortCache(PerformerCache(redis, seconds=shared.settings.redis_timeout_seconds), shared.logger)
    performers = PerformerService(database, cache, shared.metrics)
    mirror = PerformerMirror(invalidator, utc_now)
    sync = PerformerSync(database, shared.sharegram, mirror, utc_now, shared.logger)
    return [
        PerformersApi(performers, sync, database),
        PerformerDecisionsApi(performers, PerformerDecisions(database, invalidator, utc_now), utc_now),
        PerformerSyncsApi(database, shared.jobs, utc_now),
    ]


def _kyc(shared: _Shared, converter: DocumentConverter) -> Sequence[Api]:
    settings, database, logger = shared.settings, shared.database, shared.logger
    files, applicants = None, None
    if shared.encryption:
        files = EncryptedFiles(open_file_store(settings), shared.encryption.cipher(Purpose.KYC_DOCUMENT))
        applicants = shared.encryption.cipher(Purpose.KYC_APPLICANT)
    kyc = KycService(database, applicants, utc_now, settings.kyc_rules(), shared.notifier.notify)
    uploads = UploadService(kyc, converter, files, utc_now, logger)
    return [
        KycApi(kyc, uploads, shared.protections.require_kyc, utc_now),
        KycRecordsApi(kyc, database, applicants, files, utc_now, logger),
    ]


def _operations(shared: _Shared) -> Sequence[Api]:
    """Return what operators use: events, jobs, the quarantine, the audit log, breakers, fallback and flags."""
    settings, database, logger = shared.settings, shared.database, shared.logger

    async def current_secrets() -> Sequence[WebhookSecret]:
        return [*settings.webhook_secrets(), *await _stored_secrets(database, shared.encryption)]

    quarantined = shared.encryption.cipher(Purpose.QUARANTINED_WEBHOOK) if shared.encryption else None
    reverify = ReverifyService(
        database, shared.producer, quarantined, settings.webhook_scheme, current_secrets, clock=utc_now
    )
    return [
        EventsApi(database, RedriveService(database, utc_now), logger),
        JobsApi(shared.jobs, utc_now, logger),
        ReplaysApi(shared.jobs, logger),
        QuarantineApi(database, reverify, logger),
        AuditApi(database),
        BreakersApi(shared.operations),
        FallbackApi(shared.operations),
        FlagsApi(FlagService(database, shared.protections.flag_store, utc_now)),
    ]


def _integrations(shared: _Shared) -> Sequence[Api]:
    settings, database, integration = shared.settings, shared.database, shared.protections.integration
    configuration = IntegrationConfiguration(
        database,
        integration,
        shared.encryption.cipher(Purpose.SHAREGRAM_CREDENTIALS) if shared.encryption else None,
        shared.operations,
        utc_now,
        has_environment_keys=settings.credentials() is not None,
    )
    status = IntegrationStatus(database, integration, utc_now)
    rotation = SecretRotation(database, _encrypt_secret(settings), utc_now)
    is_production = settings.safevideo_env == "production"
    registration = WebhookRegistration(database, shared.sharegram, utc_now, only_https=is_production)
    return [IntegrationsApi(status, configuration, integration, rotation, registration, shared.logger)]


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
async def _fetching_keys(app: web.Application, providers: Iterable[IdentityProvider]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in providers:
            await stack.enter_async_context(background_task(app, f"signing-keys-{each.name}", each.keys.run))
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
