"""The wiring of `kyc-worker`: all its objects, in the order of their dependencies."""

from collections.abc import AsyncIterator, Mapping
from datetime import time, timedelta

from aiohttp import web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from kyc_worker.documents.cleanup_job import DocumentCleanupJob
from kyc_worker.documents.deleter import DocumentDeleter
from kyc_worker.documents.store_mark import StoreMark
from kyc_worker.metrics import KycMonitor
from kyc_worker.privacy.erasure_job import ErasureJob, ErasureParts
from kyc_worker.privacy.retention_job import RetentionJob, RetentionMetrics, RetentionPeriods
from kyc_worker.settings import KycWorkerSettings
from kyc_worker.verifications.expiry_job import ExpiryJob
from kyc_worker.verifications.handler import VerificationHandler
from kyc_worker.verifications.resync_job import ResyncJob
from kyc_worker.verifications.submission_job import SubmissionJob
from safevideo_common.auth.sessions import SessionStore
from safevideo_common.broker.port import Broker
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.documents.files import EncryptedFiles, FileStore
from safevideo_common.documents.open import open_file_store
from safevideo_common.encryption import Purpose
from safevideo_common.events import topics
from safevideo_common.inbox.group_member import (
    LagTrend,
    build_consumer,
    build_worker_app,
    open_worker_database,
    run_consumer,
)
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.runtime import run_job_worker
from safevideo_common.jobs.scheduler import PERIODIC_JOBS, Daily, Interval, PeriodicJob
from safevideo_common.kyc.requests import CLEANUP_JOB, EXPIRY_JOB, RESYNC_JOB, VERIFICATION_JOB
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import open_tracer
from safevideo_common.privacy.jobs import ERASURE_JOB, RETENTION_JOB
from safevideo_common.protections.gate import JOB_TYPES as SHAREGRAM_JOBS
from safevideo_common.protections.gate import FeatureGate, SharegramGate
from safevideo_common.protections.runtime import run_protections
from safevideo_common.replay.job import MAX_CONCURRENT_REPLAYS, ReplayJob
from safevideo_common.replay.request import JOB_TYPE
from safevideo_common.service import background_task
from safevideo_common.sharegram.client import SharegramClient, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys

SERVICE = topics.KYC_WORKER
TOPICS = topics.CONSUMED[SERVICE]
PERIODIC = (
    PeriodicJob("kyc-resync", RESYNC_JOB, Interval(timedelta(minutes=15))),
    PeriodicJob("kyc-expiry", EXPIRY_JOB, Interval(timedelta(hours=1))),
    PeriodicJob("kyc-retention", RETENTION_JOB, Daily(time(2, 15))),
    PeriodicJob("person-erasure", ERASURE_JOB, Interval(timedelta(hours=1))),
    PeriodicJob("kyc-document-cleanup", CLEANUP_JOB, Daily(time(4, 10))),
)


def build_app(settings: KycWorkerSettings, broker: Broker, logger: FilteringBoundLogger) -> web.Application:
    """Return the service as an aiohttp application. It does not start if the database is not migrated."""
    registry = CollectorRegistry()
    app = build_worker_app(broker, logger, registry)

    async def consume(app: web.Application) -> AsyncIterator[None]:
        handler = VerificationHandler(utc_now, settings.kyc_rules())
        async with (
            open_worker_database(app, settings) as database,
            run_protections(app, settings, database, registry, logger) as protections,
            open_tracer(settings, SERVICE, logger) as tracer,
            open_redis(settings.redis_url.get_secret_value(), db=0) as cache_redis,
            open_redis(settings.redis_url.get_secret_value(), settings.redis_sso_db) as sso_redis,
        ):
            gate = SharegramGate(protections.breaker, protections.fallback, protections.integration)
            consumer = build_consumer(SERVICE, handler, database, settings, registry, logger, tracer)
            lag = LagTrend()
            store = open_file_store(settings)
            mark = StoreMark(database, store, utc_now, logger)
            deleter = DocumentDeleter(database, store, mark, utc_now, logger)
            keys = StoredIdempotencyKeys(database, utc_now)
            async with (
                open_sharegram(settings, protections.around_calls, keys, registry, logger, utc_now) as sharegram,
                run_consumer(app, broker, TOPICS, consumer, settings, lag),
                background_task(app, "kyc-monitor", KycMonitor(database, registry, utc_now).run),
                background_task(app, "document-deleter", deleter.run),
                run_job_worker(
                    app,
                    SERVICE,
                    {
                        JOB_TYPE: ReplayJob.of(consumer, handler, broker, lag, settings, registry),
                        RESYNC_JOB: ResyncJob(database, handler, sharegram, utc_now, logger),
                        CLEANUP_JOB: DocumentCleanupJob(database, store, mark, utc_now, logger),
                        **_request_jobs(settings, database, store, sharegram, keys, logger),
                        **_privacy_jobs(settings, database, deleter, cache_redis, sso_redis, registry, logger),
                    },
                    broker,
                    settings,
                    registry,
                    logger,
                    outbox_wakeup=consumer.outbox_wakeup,
                    tracer=tracer,
                    periodic_jobs=(*PERIODIC_JOBS, *PERIODIC),
                    concurrency_by_type={JOB_TYPE: MAX_CONCURRENT_REPLAYS},
                    gates=dict.fromkeys(SHAREGRAM_JOBS, FeatureGate(gate, lambda: protections.is_kyc_enabled)),
                ),
            ):
                yield

    app.cleanup_ctx.append(consume)
    return app


def _request_jobs(
    settings: KycWorkerSettings,
    database: Database,
    store: FileStore,
    sharegram: SharegramClient,
    keys: StoredIdempotencyKeys,
    logger: FilteringBoundLogger,
) -> Mapping[str, JobHandler]:
    """Return the jobs that send and expire requests. Without a key for their documents none is sent."""
    encryption = settings.encryption_keys()
    pending = timedelta(days=settings.kyc_pending_days)
    jobs: dict[str, JobHandler] = {EXPIRY_JOB: ExpiryJob(database, settings.kyc_rules(), pending, utc_now)}
    if encryption is None:
        logger.warning("No ENCRYPTION_KEY: KYC requests are not sent to Sharegram")
        return jobs
    files, applicant = EncryptedFiles(store, encryption.cipher(Purpose.KYC_DOCUMENT)), Purpose.KYC_APPLICANT
    jobs[VERIFICATION_JOB] = SubmissionJob(
        database, files, encryption.cipher(applicant), sharegram, keys, settings.kyc_rules(), utc_now, logger
    )
    return jobs


def _privacy_jobs(
    settings: KycWorkerSettings,
    database: Database,
    deleter: DocumentDeleter,
    cache_redis: Redis,
    sso_redis: Redis,
    registry: CollectorRegistry,
    logger: FilteringBoundLogger,
) -> Mapping[str, JobHandler]:
    encryption, metrics = settings.encryption_keys(), RetentionMetrics(registry)
    cipher = encryption.cipher(Purpose.QUARANTINED_WEBHOOK) if encryption else None
    periods = RetentionPeriods(settings.kyc_retention_days_verified, settings.kyc_retention_days_rejected)
    parts = ErasureParts(database, deleter, cipher, PerformerCache(cache_redis), SessionStore(sso_redis))
    return {
        RETENTION_JOB: RetentionJob(database, periods, metrics, utc_now, logger),
        ERASURE_JOB: ErasureJob(parts, settings.kyc_rules(), metrics, utc_now, logger),
    }
