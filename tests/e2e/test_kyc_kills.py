"""The life of a KYC request while each of its processes is killed at each of its steps: nothing is lost or doubled."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

import msgspec
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.kyc.service import KycService, Submission
from kyc_worker.verifications.expiry_job import ExpiryJob
from kyc_worker.verifications.handler import KycRequestStates, VerificationEvent, VerificationHandler
from kyc_worker.verifications.submission_job import SubmissionJob
from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.principal import Principal
from safevideo_common.broker.types import Record
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.database.tables import audit_log, batch_jobs, event_inbox, kyc_documents, outbox
from safevideo_common.database.tables import kyc_requests as table
from safevideo_common.documents.files import EncryptedFiles, FolderStore
from safevideo_common.documents.store import NewDocument, file_row
from safevideo_common.domain.kyc import KycRules
from safevideo_common.domain.kyc_documents import REQUIRED, DocumentType, Slot
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.errors import InvalidKycStatus, KycAlreadyInProgress
from safevideo_common.events import kyc
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import CHANGES, KYC, KYC_WORKER
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.sharegram.client import CallProtections, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.sharegram.settings import SharegramSettings
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.store import Identity
from safevideo_testkit.faults.kill_points import KillableDatabase, KillableFiles, Killed, KillPoint
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

API_KEY, SECRET_KEY = "the-api-key-of-this-run", "the-secret-key-of-this-run"
RULES = KycRules(validity=timedelta(days=100))
PARTS = ("submission", "uploads", "verification", "result", "decision", "expiry")
CALLER = Caller("a-performer", "performer", None, "req-1")
WARNING, END = timedelta(days=70), timedelta(days=100)


async def _keep_nothing(_tx: AsyncConnection, _stored: StoredKycRequest) -> None:
    """The caller sent no idempotency key."""


def _same(now: datetime) -> datetime:
    return now


@dataclass(slots=True)
class JobRow:
    """One attempt after the other of a job, whose cursor is in its row."""

    database: Database
    job_id: int
    job_type: str
    parameters: Mapping[str, object]
    cursor: Mapping[str, object] | None = None
    attempt: int = 1
    request_id: str | None = None
    is_shutting_down: bool = False

    @asynccontextmanager
    async def step(
        self, cursor: Mapping[str, object] | None = None, *, processed: int | None = None, total: int | None = None
    ) -> AsyncIterator[AsyncConnection]:
        del processed, total
        async with self.database.transaction() as tx:
            yield tx
            await self.checkpoint(tx, cursor)

    async def checkpoint(
        self,
        tx: AsyncConnection,
        cursor: Mapping[str, object] | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
    ) -> None:
        del processed, total
        if cursor is not None:
            await tx.execute(update(batch_jobs).where(batch_jobs.c.id == self.job_id).values(cursor=cursor))

    async def raise_if_stopped(self) -> None:
        """Nobody stops it: it is killed."""


@dataclass(slots=True)
class Life:
    """A request of one performer. Each part is killed at its step `kill_at`, and is repeated."""

    database: Database
    files: FolderStore
    keys: EncryptionKeys
    simulator: SimulatorClient
    logger: FilteringBoundLogger
    kill_at: int | None = None
    name: str = field(default_factory=lambda: f"sg_{token_hex(6)}")
    request_id: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    user_id: int | None = None

    async def run(self) -> None:
        identity = Identity("sharegram", "https://sharegram.example", self.name)
        account = await UserAccounts(self.database, utc_now).sign_in(identity, may_link=False)
        self.user_id = account.id
        for part, work in zip(
            PARTS, (self.submit, self.upload, self.verify, self.report, self.approve, self.expire), strict=True
        ):
            await self._survive(part, work)

    async def _survive(self, part: str, work: Callable[[KillPoint], Awaitable[None]]) -> None:
        kill = KillPoint(self.kill_at)
        with suppress(Killed):
            await work(kill)
            self.steps[part] = kill.reached
            return
        # The caller, the queue of jobs or the broker repeats what was not acknowledged.
        await work(KillPoint())

    def service(self, kill: KillPoint) -> KycService:
        applicants = self.keys.cipher(Purpose.KYC_APPLICANT)
        return KycService(KillableDatabase(self.database, kill), applicants, utc_now, RULES)

    async def submit(self, kill: KillPoint) -> None:
        principal = Principal(f"user:{self.user_id}", Role.PERFORMER, self.user_id, performer_id=self.name)
        submission = Submission("passport", date(2060, 1, 1), {"firstName": "Ada"})
        try:
            self.request_id = (await self.service(kill).submit(principal, submission, CALLER, _keep_nothing)).request.id
        except KycAlreadyInProgress as error:
            self.request_id = msgspec.convert((error.details or {})["requestId"], int)

    async def upload(self, kill: KillPoint) -> None:
        files = EncryptedFiles(KillableFiles(self.files, kill), self.keys.cipher(Purpose.KYC_DOCUMENT))
        for slot in sorted(REQUIRED):
            content = f"{slot} of {self.name}".encode()
            file = await files.put(file_row(self.request_id, slot), content)
            document = NewDocument(
                self.request_id, slot, _TYPES[slot], "image/jpeg", sha256(content).hexdigest(), len(content), file,
                utc_now(),
            )  # fmt: skip
            try:
                await self.service(kill).add_document(self.name, document, CALLER)
            except InvalidKycStatus:  # the last one was recorded before the kill
                await self.service(kill).discard_file(self.request_id, file)
                return

    async def verify(self, kill: KillPoint) -> None:
        database = KillableDatabase(self.database, kill)
        keys = StoredIdempotencyKeys(database, utc_now)
        settings = SharegramSettings.model_validate(
            {
                "safevideo_env": "development",
                "sharegram_api_url": f"{self.simulator.base_url}/v1",
                "sharegram_api_key": API_KEY,
                "sharegram_secret_key": SECRET_KEY,
            }
        )
        async with self.database.read_connection() as reading:
            query = select(batch_jobs).where(batch_jobs.c.job_type == "kyc_verification")
            (row,) = [each for each in await reading.execute(query) if each.parameters["requestId"] == self.request_id]
        async with open_sharegram(
            settings, CallProtections(), keys, CollectorRegistry(), self.logger, utc_now
        ) as sharegram:
            job = SubmissionJob(
                database,
                EncryptedFiles(self.files, self.keys.cipher(Purpose.KYC_DOCUMENT)),
                self.keys.cipher(Purpose.KYC_APPLICANT),
                sharegram,
                keys,
                RULES,
                utc_now,
                self.logger,
            )
            await job.run(JobRow(database, row.id, row.job_type, row.parameters, row.cursor))

    async def report(self, kill: KillPoint) -> None:
        (begun,) = await self.verifications()
        data = {
            "verificationId": begun["verificationId"],
            "performerId": self.name,
            "result": {"status": "review", "riskScore": 60},
        }
        envelope = Envelope(f"evt-{self.name}", kyc.COMPLETED, datetime(2026, 11, 28, tzinfo=UTC), self.name)
        body = msgspec.json.encode({"data": data})
        record = Record(KYC, 0, 5, 0, self.name.encode(), body, envelope.headers())
        consumer: ConsumerContext[VerificationEvent, KycRequestStates] = ConsumerContext(
            KYC_WORKER, VerificationHandler(utc_now, RULES), KillableDatabase(self.database, kill),
            Backoff(0.001, 0.001), utc_now, self.logger, ConsumerMetrics(CollectorRegistry()), DlqLimit(0.5, 1000, 100),
        )  # fmt: skip
        await BatchProcessor(consumer, LivePolicy(consumer)).process([delivery_of(record)])

    async def approve(self, kill: KillPoint) -> None:
        with suppress(InvalidKycStatus):  # it was committed before the kill
            await self.service(kill).approve(self.request_id, None, CALLER)

    async def expire(self, kill: KillPoint) -> None:
        database = KillableDatabase(self.database, kill)
        for later in (WARNING, END):
            now = utc_now() + later
            handler = ExpiryJob(database, RULES, END, partial(_same, now))
            await handler.run(JobRow(database, 0, "kyc_expiry", {}))

    async def verifications(self) -> list[Mapping[str, object]]:
        found = (await self.simulator.state())["verifications"]
        return [each for each in found if each["performerId"] == self.name]

    async def check(self) -> None:
        """Each effect is there once."""
        async with self.database.read_connection() as reading:
            statuses = list(await reading.scalars(select(table.c.status).where(table.c.performer_id == self.name)))
            published = [
                msgspec.json.decode(each)
                for each in await reading.scalars(
                    select(outbox.c.payload)
                    .where(outbox.c.message_key == self.name.encode(), outbox.c.topic == CHANGES)
                    .order_by(outbox.c.id)
                )
            ]
            documents = (
                await reading.execute(select(kyc_documents).where(kyc_documents.c.request_id == self.request_id))
            ).all()
            events = await reading.scalar(
                select(func.count()).select_from(event_inbox).where(event_inbox.c.performer_id == self.name)
            )
            audited = [
                each.action
                for each in await reading.execute(select(audit_log.c.action, audit_log.c.details))
                if each.details.get("requestId") == self.request_id
            ]
        where = f"killed at step {self.kill_at}"
        assert statuses == ["expired"], where
        assert [each.get("status", each.get("daysLeft")) for each in published] == [
            "in_review",
            "verified",
            30,
            "expired",
        ], where
        assert len(await self.verifications()) == 1, where
        assert (len(documents), events) == (len(REQUIRED), 1), where
        assert sorted(audited) == ["kyc.submitted", "kyc.verified"], where
        files = EncryptedFiles(self.files, self.keys.cipher(Purpose.KYC_DOCUMENT))
        for each in documents:
            content = await files.get(file_row(self.request_id, Slot(each.slot)), each.file_name)
            assert content == f"{each.slot} of {self.name}".encode(), where


_TYPES = {
    Slot.ID_FRONT: DocumentType.PASSPORT,
    Slot.SELFIE: DocumentType.SELFIE,
    Slot.PROOF_OF_ADDRESS: DocumentType.PROOF_OF_ADDRESS,
}


async def test_kill_at_each_step_of_a_kyc_request_loses_and_doubles_nothing(
    migrated_sqlite_url: str, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    simulated = SimulatorSettings(
        port=0,
        webhook_secret=SecretStr("a-secret-that-signs-nothing-here"),
        api_key=SecretStr(API_KEY),
        secret_key=SecretStr(SECRET_KEY),
    )
    keys = EncryptionKeys.parse(Fernet.generate_key().decode())
    async with Database.open(migrated_sqlite_url) as database, running_simulator(simulated) as simulator:

        async def lived(kill_at: int | None) -> Mapping[str, int]:
            life = Life(database, FolderStore(tmp_path / "documents"), keys, simulator, log, kill_at)
            await life.run()
            await life.check()
            return life.steps

        steps = await lived(None)
        assert list(steps) == list(PARTS)
        assert min(steps.values()) >= 2
        for kill_at in range(1, max(steps.values()) + 1):
            await lived(kill_at)
