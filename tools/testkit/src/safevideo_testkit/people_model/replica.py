"""A replica of the gateway and of kyc-worker: their services over clients with numbered points, and a clock."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.documents.converter import ConvertedDocument, DocumentConverter
from gateway.documents.kinds import DocumentKind
from gateway.kyc.service import KycService
from gateway.kyc.uploads import UploadService
from gateway.metrics import GatewayMetrics
from gateway.sign_in.service import SignInService, SignOutAudit
from kyc_worker.documents.cleanup_job import DocumentCleanupJob
from kyc_worker.documents.deleter import DocumentDeleter
from kyc_worker.documents.store_mark import StoreMark
from kyc_worker.privacy.erasure_job import ErasureJob, ErasureParts
from kyc_worker.privacy.retention_job import RetentionJob, RetentionMetrics, RetentionPeriods
from kyc_worker.verifications.expiry_job import ExpiryJob
from kyc_worker.verifications.handler import VerificationHandler
from kyc_worker.verifications.resync_job import ResyncJob
from kyc_worker.verifications.submission_job import SubmissionJob
from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.authentication import RequestAuthenticator
from safevideo_common.auth.authenticator import ApiKeyAuthenticator
from safevideo_common.auth.sessions import SSO_DB, SessionStore
from safevideo_common.cache.invalidator import RedisCacheInvalidator
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.documents.files import EncryptedFiles
from safevideo_common.domain.kyc import KycRules
from safevideo_common.encryption import Cipher, Purpose
from safevideo_common.events import topics
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import EventHandler
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.privacy.erasure import Erasures
from safevideo_common.privacy.holds import LegalHolds
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.merge import UserMerges
from safevideo_common.users.rights import UserRights
from safevideo_testkit.people_model.clients import (
    SECONDS,
    NumberedFiles,
    NumberedSharegram,
    SharegramStandIn,
    open_numbered_database,
    open_numbered_redis,
)
from safevideo_testkit.people_model.points import Points
from sync_worker.performers.handler import PerformerHandler

RULES: Final = KycRules(80, timedelta(days=730))
PENDING: Final = timedelta(days=30)
PERIODS: Final = RetentionPeriods(1825, 365)
SITE: Final = "https://safevideo.example"


class ReadableCipher(Cipher):
    """A cipher that hides nothing, so that a search for a planted word finds it where it is stored."""

    def encrypt(self, plain: bytes, row: str) -> bytes:
        """See `Cipher`."""
        return row.encode() + b"\n" + plain

    def decrypt(self, encrypted: bytes, row: str) -> bytes:
        """See `Cipher`."""
        return encrypted.removeprefix(row.encode() + b"\n")


def cipher(purpose: Purpose) -> Cipher:
    """Return the cipher of a purpose."""
    del purpose
    return ReadableCipher({b"none": b"k" * 32})


class SameBytes:
    """A converter that leaves a document as it is."""

    def warm(self) -> None:
        """See `DocumentConverter`."""

    async def convert(self, document: bytes) -> ConvertedDocument:
        """See `DocumentConverter`."""
        return ConvertedDocument(DocumentKind.JPEG, document)


@dataclass(slots=True)
class WorldTime:
    """The time of the world: that of the machine, moved forward as far as a run wants."""

    moved: timedelta = timedelta()

    def now(self) -> datetime:
        """Return the time."""
        return utc_now() + self.moved


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the shared parts."""

    database_url: str
    redis_url: str
    folder: Path


@dataclass
class Replica:
    """The services of one replica. `restart` makes them anew, as a new process has them."""

    name: str
    time: WorldTime
    offset: timedelta
    points: Points
    database: Database
    sso_redis: Redis
    cache_redis: Redis
    files: NumberedFiles
    sharegram: NumberedSharegram
    logger: FilteringBoundLogger
    services: "Services" = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def clock(self) -> datetime:
        """Return the time as this replica has it."""
        return self.time.now() + self.offset

    def restart(self) -> None:
        """Begin as a new process."""
        self.services = Services(self)


class Services:
    """The objects of `gateway.app` and `kyc_worker.app` that act on people and documents."""

    def __init__(self, replica: Replica) -> None:
        r = replica
        clock, database, logger = r.clock, r.database, r.logger
        self.sessions = SessionStore(r.sso_redis, seconds=SECONDS)
        self.tokens = AccessTokens("a secret of this test, long enough")
        self.accounts = UserAccounts(database, clock)
        self.merges = UserMerges(database, self.sessions, clock)
        self.rights = UserRights(database, clock, self.accounts.forget)
        self.holds = LegalHolds(database, clock)
        self.erasures = Erasures(database, clock)
        api_keys = ApiKeyAuthenticator(database, clock, logger)
        self.authenticator = RequestAuthenticator(api_keys, self.sessions, self.accounts, self.tokens, SITE)
        self.audit = SignOutAudit(database, clock, logger)
        metrics = GatewayMetrics(CollectorRegistry())
        self.sign_in = SignInService(
            {}, self.accounts, self.sessions, self.tokens, self.audit, clock, metrics, logger, lambda: True
        )
        self.kyc = KycService(database, cipher(Purpose.KYC_APPLICANT), clock, RULES)
        self.encrypted = encrypted = EncryptedFiles(r.files, cipher(Purpose.KYC_DOCUMENT))
        converter = cast(DocumentConverter, SameBytes())
        self.uploads = UploadService(self.kyc, converter, encrypted, clock, logger)
        self.verifications = VerificationHandler(clock, RULES)
        keys, sharegram = StoredIdempotencyKeys(database, clock), cast(SharegramClient, r.sharegram)
        self.submission_job = SubmissionJob(
            database, encrypted, cipher(Purpose.KYC_APPLICANT), sharegram, keys, RULES, clock, logger
        )
        self.resync_job = ResyncJob(database, self.verifications, sharegram, clock, logger)
        mark = StoreMark(database, r.files, clock, logger)
        self.deleter = DocumentDeleter(database, r.files, mark, clock, logger)
        self.expiry_job = ExpiryJob(database, RULES, PENDING, clock)
        self.cleanup_job = DocumentCleanupJob(database, r.files, mark, clock, logger)
        retention = RetentionMetrics(CollectorRegistry())
        self.retention_job = RetentionJob(database, PERIODS, retention, clock, logger)
        cache = PerformerCache(r.cache_redis, seconds=SECONDS)
        parts = ErasureParts(database, self.deleter, cipher(Purpose.QUARANTINED_WEBHOOK), cache, self.sessions)
        self.erasure_job = ErasureJob(parts, RULES, retention, clock, logger)
        self.kyc_events = _processor(topics.KYC_WORKER, self.verifications, replica)
        self.performer_events = _processor(
            topics.SYNC_WORKER, PerformerHandler(clock, RedisCacheInvalidator(cache, logger)), replica
        )


def _processor(group: str, handler: EventHandler[Any, Any], replica: Replica) -> BatchProcessor[Any, Any]:
    context: ConsumerContext[Any, Any] = ConsumerContext(
        group,
        handler,
        replica.database,
        Backoff(1.0, 8.0),
        clock=replica.clock,
        logger=replica.logger,
        metrics=ConsumerMetrics(CollectorRegistry()),
        dlq_limit=DlqLimit(limit=1.0, window=1000, minimum=1000),
    )
    return BatchProcessor(context, LivePolicy(context))


@asynccontextmanager
async def open_replica(
    name: str,
    addresses: Addresses,
    time: WorldTime,
    offset: timedelta,
    sharegram: SharegramStandIn,
    logger: FilteringBoundLogger,
) -> AsyncIterator[Replica]:
    """Open the clients of a replica, and its services."""
    points = Points()

    def clock() -> datetime:
        return time.now() + offset

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_numbered_database(addresses.database_url, points))
        sso = await stack.enter_async_context(open_numbered_redis(addresses.redis_url, SSO_DB, points))
        cache = await stack.enter_async_context(open_numbered_redis(addresses.redis_url, 0, points))
        files = NumberedFiles(addresses.folder, points, clock)
        stand_in = NumberedSharegram(sharegram, points, clock)
        yield Replica(name, time, offset, points, database, sso, cache, files, stand_in, logger)
