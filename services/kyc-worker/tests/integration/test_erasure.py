"""Erasure of a person: nothing of a planted name is left, whatever step a worker dies at; holds; restored rows."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kyc_worker.documents.deleter import DocumentDeleter
from kyc_worker.documents.store_mark import StoreMark
from kyc_worker.privacy.erasure_job import ErasureJob, ErasureParts
from kyc_worker.privacy.retention_job import RetentionMetrics
from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import NewSession, SessionStore
from safevideo_common.broker.types import Message
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database import performers as performers_store
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import (
    batch_jobs,
    document_deletions,
    erasure_orders,
    event_inbox,
    idempotency_keys,
    kyc_documents,
    kyc_requests,
    metadata,
    outbox,
    performers,
    rejected_webhooks,
    users,
)
from safevideo_common.documents.files import FolderStore
from safevideo_common.domain.kyc import KycRules
from safevideo_common.domain.performers import Performer
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.errors import InvalidStatusTransition, LegalHold, SsoAuthFailed
from safevideo_common.events.change_events import KYC_CHANGED, PERFORMER_CHANGED
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import CHANGES
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.privacy.erasure import Erasures, ExportedOrder
from safevideo_common.privacy.holds import LegalHolds
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.merge import UserMerges
from safevideo_common.users.rights import RoleGrant
from safevideo_common.users.role_grants import RoleGrants
from safevideo_common.users.store import Identity
from safevideo_testkit.each_database import *  # noqa: F403 - pytest finds fixtures by name

NAME = "Planted-Zebedee"
ADA = Identity("sharegram", "https://sharegram.example", "sg_ada", f"{NAME}@example.com", True, NAME, NAME, NAME)
ADA_ELSEWHERE = Identity("other", "https://other.example", f"{NAME}-2", f"2{NAME}@example.com", True, NAME, NAME)
CALLER = Caller("privacy-officer", "admin", None, "r1")
BODY = f'{{"data": {{"performerId": "sg_ada", "changes": {{"displayName": "{NAME}"}}}}}}'.encode()
ERASED = {
    "users", "user_identities", "user_merges", "performers", "kyc_requests", "kyc_documents", "document_deletions",
    "event_inbox", "outbox", "rejected_webhooks", "batch_jobs", "idempotency_keys", "role_grants",
}  # fmt: skip
WITHOUT_PERSONAL_DATA = {
    "performer_scan_rows", "sync_watermarks", "kyc_verification_steps", "api_keys", "legal_holds", "erasure_orders",
    "erased_identifiers", "integrations", "webhook_secrets", "audit_log", "leases", "document_stores",
    "legal_hold_subjects", "person_locks", "batch_job_tries", "schedule_fires", "sharegram_idempotency_keys",
    "overrides",
}  # fmt: skip


def test_each_table_is_erased_or_has_no_personal_data() -> None:
    assert set(metadata.tables) == ERASED | WITHOUT_PERSONAL_DATA


class KilledError(Exception):
    """The worker dies."""


@dataclass(slots=True)
class DyingJob:
    """An attempt whose worker dies just before the commit of a step."""

    database: Database
    parameters: Mapping[str, object]
    steps: int = 1000
    cursor: Mapping[str, object] | None = None
    job_id: int = 1
    job_type: str = "person_erasure"
    attempt: int = 1
    request_id: str | None = None
    is_shutting_down: bool = False
    committed: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def step(
        self, cursor: Mapping[str, object] | None = None, *, processed: int | None = None, total: int | None = None
    ) -> AsyncIterator[AsyncConnection]:
        async with self.database.transaction() as tx:
            yield tx
            self.steps -= 1
            if self.steps < 0:
                raise KilledError
        self.cursor = cursor or self.cursor

    async def checkpoint(
        self,
        tx: AsyncConnection,
        cursor: Mapping[str, object] | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
    ) -> None: ...

    async def raise_if_stopped(self) -> None: ...


@dataclass(slots=True)
class World:
    """A person whose name is everywhere, and the job that erases it."""

    database: Database
    folder: Path
    sessions: SessionStore
    cache: PerformerCache
    log: FilteringBoundLogger
    user_id: int = 0
    generation: str = ""
    keys: EncryptionKeys = field(default_factory=lambda: EncryptionKeys([b"k" * 32]))

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder)

    async def plant(self) -> None:
        accounts = UserAccounts(self.database, utc_now)
        waiting = RoleGrants(self.database, utc_now)
        await waiting.add(f"{NAME}@example.com", RoleGrant(Role.MODERATOR), "ticket 1", CALLER)
        account = await accounts.sign_in(ADA, may_link=False)
        self.user_id, self.generation = account.id, account.generation
        second = (await accounts.sign_in(ADA_ELSEWHERE, may_link=False)).id
        merges = UserMerges(self.database, self.sessions, utc_now)
        await merges.merge(self.user_id, [second], CALLER, dry_run=False)
        await self.plant_performer()
        now = utc_now()
        async with self.database.transaction() as tx:
            await self._plant_request(tx)
            await self._plant_events(tx)
            cipher = self.keys.cipher(Purpose.QUARANTINED_WEBHOOK)
            row = {
                "fingerprint": "f" * 64, "received_at": now, "last_seen_at": now, "times_seen": 1, "reason": "mismatch",
                "code": "WEBHOOK_SIGNATURE_INVALID", "scheme": "sharegram", "headers": {}, "body_sha256": "0" * 64,
                "body": cipher.encrypt(BODY, "f" * 64), "body_bytes": len(BODY), "remote": "192.0.2.1",
            }  # fmt: skip
            await tx.execute(insert(rejected_webhooks).values(row))
            about = [{"performerId": each, "changes": {"displayName": {"to": each}}} for each in ("sg_ada", "sg_bob")]
            about[0]["changes"] = {"displayName": {"to": NAME}}
            job = {
                "job_type": "event_replay", "parameters": {}, "priority": "low", "status": "completed", "max_tries": 1,
                "created_at": now, "queued_at": now, "next_try_at": now, "result": {"performers": about},
                "cursor": {"part": {"performers": about}},
            }  # fmt: skip
            await tx.execute(insert(batch_jobs).values(job))
            response = {
                "principal": "user:1", "route": "PUT /performers", "idempotency_key": "k", "fingerprint": "0" * 64,
                "token": "t", "expires_at": now + timedelta(days=1), "status": 200,
                "document": {"data": {"sharegramId": "sg_ada", "username": NAME}},
            }  # fmt: skip
            await tx.execute(insert(idempotency_keys).values(response))
            for kind in (PERFORMER_CHANGED, KYC_CHANGED):
                headers = Envelope("e1", kind, now, "sg_ada").headers()
                value = NAME.encode() if kind == PERFORMER_CHANGED else b"{}"
                await outbox_store.record(tx, [Message(CHANGES, b"sg_ada", value, headers)], now)
        began = await self.sessions.now()
        new = NewSession(self.user_id, self.generation, "sharegram", ADA.issuer, ADA.subject, None, now, began)
        await self.sessions.create(new)

    async def plant_performer(self) -> None:
        fields = {
            "username": NAME,
            "display_name": NAME,
            "email": NAME,
            "bio": NAME,
            "verified": True,
            "status": "active",
        }
        async with self.database.transaction() as tx:
            await performers_store.insert_new(tx, [Performer("sg_ada", fields), Performer("sg_bob", fields)], utc_now())

    async def _plant_request(self, tx: AsyncConnection) -> None:
        at = utc_now()
        for status in ("verified", "in_progress"):
            values = {
                "performer_id": "sg_ada", "status": status, "created_at": at, "updated_at": at, "applicant": b"secret",
                "result": {"status": "passed", "riskScore": 91, "checks": {"name": NAME}}, "decision_notes": NAME,
            }  # fmt: skip
            request_id = int((await tx.execute(insert(kyc_requests).values(values))).lastrowid)
            await self.store.put(f"{request_id:032x}", b"encrypted")
            row = {
                "request_id": request_id, "slot": "selfie", "document_type": "selfie", "media_type": "image/jpeg",
                "sha256": "0" * 64, "size": 9, "file_name": f"{request_id:032x}", "uploaded_at": at,
            }  # fmt: skip
            await tx.execute(insert(kyc_documents).values(row))

    async def _plant_events(self, tx: AsyncConnection) -> None:
        at = utc_now()
        for number, (status, name) in enumerate((("waiting", "sg_ada"), ("dead", "sg_ada"), ("dead", None))):
            row = {
                "consumer_group": "sync-worker", "event_id": f"evt_{number}", "event_type": "performer.profile.updated",
                "performer_id": name, "source_topic": "t", "source_partition": 0, "source_offset": number,
                "last_offset": number, "occurred_at": at, "received_at": at, "decided_at": at, "status": status,
                "payload": BODY,
            }  # fmt: skip
            await tx.execute(insert(event_inbox).values(row))

    def job(self) -> ErasureJob:
        cipher = self.keys.cipher(Purpose.QUARANTINED_WEBHOOK)
        mark = StoreMark(self.database, self.store, utc_now, self.log)
        deleter = DocumentDeleter(self.database, self.store, mark, utc_now, self.log)
        parts = ErasureParts(self.database, deleter, cipher, self.cache, self.sessions)
        return ErasureJob(
            parts, KycRules(80, timedelta(days=730)), RetentionMetrics(CollectorRegistry()), utc_now, self.log
        )

    async def erase(self) -> int:
        plan = await Erasures(self.database, utc_now).order(self.user_id, "request 7", CALLER)
        assert plan.order_id is not None
        return plan.order_id

    async def places(self) -> list[str]:
        """The tables with the planted name, but for what another performer has."""
        async with self.database.read_connection() as reading:
            return [
                name
                for name, table in metadata.tables.items()
                for row in await reading.execute(select(table))
                if NAME in str(row._mapping) and getattr(row, "sharegram_id", "") != "sg_bob"
            ]

    async def count(self, query: object) -> int:
        async with self.database.read_connection() as reading:
            return await reading.scalar(query) or 0  # type: ignore[call-overload]  # any query of a number


@pytest.fixture
async def world(database: Database, tmp_path: Path, redis_url: str, log: FilteringBoundLogger) -> AsyncIterator[World]:
    async with open_redis(redis_url, 0, seconds=5) as cache, open_redis(redis_url, 2, seconds=5) as sso:
        world = World(database, tmp_path / "files", SessionStore(sso, seconds=5), PerformerCache(cache, seconds=5), log)
        await world.plant()
        yield world


async def test_nothing_of_the_person_is_left_whatever_step_the_worker_dies_at(world: World) -> None:
    assert len(set(await world.places())) == 9
    order_id = await world.erase()
    kills = 0
    while True:
        try:
            result = await world.job().run(DyingJob(world.database, {"orderId": order_id}, kills))
        except KilledError:
            kills += 1
        else:
            break
    assert kills > 8
    assert result == {"applied": 1, "held": 0}
    assert await world.places() == []
    assert [each for each in world.folder.rglob("*/*") if each.is_file()] == []
    assert await world.count(select(func.count()).select_from(kyc_documents)) == 0
    assert await world.count(select(func.count()).select_from(document_deletions)) == 0
    assert await world.count(select(func.count()).select_from(rejected_webhooks)) == 0
    assert await world.sessions.of_user(world.user_id) == []
    async with world.database.read_connection() as reading:
        c = kyc_requests.c
        rows = (await reading.execute(select(c.status, c.applicant, c.result, c.decision_reason).order_by(c.id))).all()
        statuses = list(await reading.scalars(select(event_inbox.c.status)))
        job = (await reading.execute(select(batch_jobs.c.result, batch_jobs.c.cursor).limit(1))).one()
        published = [bytes(each) for each in await reading.scalars(select(outbox.c.payload).order_by(outbox.c.id))]
    assert rows == [("verified", None, None, None), ("rejected", None, None, "other")]
    assert statuses == ["ignored"] * 3
    assert [each["performerId"] for each in job.result["performers"]] == ["sg_bob"]
    assert job.cursor == {"part": job.result}
    assert sum(b'"deletedAt"' in each for each in published) == 1
    with pytest.raises(SsoAuthFailed):
        await UserAccounts(world.database, utc_now).sign_in(ADA, may_link=False)
    assert await UserAccounts(world.database, utc_now).rights_of(world.user_id, world.generation) is None


async def test_repeated_order_is_the_same_and_restored_rows_are_erased_again(world: World) -> None:
    order_id = await world.erase()
    await world.job().run(DyingJob(world.database, {"orderId": order_id}))
    assert await world.erase() == order_id
    async with world.database.transaction() as tx:  # as a backup has them
        restored = {"erased_at": None, "username": NAME, "sharegram_id": "sg_ada", "email": f"{NAME}@example.com"}
        await tx.execute(update(users).where(users.c.id == world.user_id).values(restored))
        is_ada = performers.c.sharegram_id == "sg_ada"
        await tx.execute(update(performers).where(is_ada).values(username=NAME, deleted_at=None))
    assert set(await world.places()) == {"users", "performers"}
    assert await world.job().run(DyingJob(world.database, {})) == {"applied": 1, "held": 0}
    assert await world.places() == []
    assert await world.count(select(func.count()).select_from(erasure_orders)) == 1


async def test_hold_stops_the_order_and_the_job_until_it_is_released(world: World) -> None:
    holds, erasures = LegalHolds(world.database, utc_now), Erasures(world.database, utc_now)
    await holds.create("sg_ada", "case 7", CALLER)
    with pytest.raises(LegalHold):
        await erasures.preview(world.user_id)
    with pytest.raises(LegalHold):
        await world.erase()
    await holds.release("sg_ada", "closed", CALLER)
    assert (await erasures.preview(world.user_id)).rows["documents"] == 2
    order_id = await world.erase()
    await holds.create("sg_ada", "case 8", CALLER)
    before = await world.places()
    assert await world.job().run(DyingJob(world.database, {"orderId": order_id})) == {"applied": 0, "held": 1}
    assert await world.places() == before
    await holds.release("sg_ada", "closed", CALLER)
    assert await world.job().run(DyingJob(world.database, {})) == {"applied": 1, "held": 0}
    with pytest.raises(InvalidStatusTransition):
        await holds.create(world.user_id, "case 9", CALLER)


async def test_hold_that_comes_after_the_start_is_refused_and_one_before_keeps_everything(world: World) -> None:
    """Whatever step the job is at: no hold is accepted and then ignored."""
    order_id, holds = await world.erase(), LegalHolds(world.database, utc_now)
    before = await world.places()
    with pytest.raises(KilledError):  # it has locked the person, found no hold, and its commit does not come
        await world.job().run(DyingJob(world.database, {"orderId": order_id}, 0))
    await holds.create(world.user_id, "case 7", CALLER)
    assert await world.job().run(DyingJob(world.database, {"orderId": order_id})) == {"applied": 0, "held": 1}
    assert await world.places() == before
    await holds.release(world.user_id, "closed", CALLER)
    with pytest.raises(KilledError):  # the start is committed
        await world.job().run(DyingJob(world.database, {"orderId": order_id}, 1))
    with pytest.raises(InvalidStatusTransition) as refused:
        await holds.create(world.user_id, "case 8", CALLER)
    assert refused.value.details == {"orderId": order_id}
    assert await world.job().run(DyingJob(world.database, {})) == {"applied": 1, "held": 0}
    assert await world.places() == []


async def test_restored_merge_with_somebody_else_erases_the_person_alone(world: World) -> None:
    """The backup is older than an unmerge: there somebody else's account is still merged with the person's."""
    accounts = UserAccounts(world.database, utc_now)
    other = await accounts.sign_in(Identity("firebase", "https://other.example", "bob", username="bob"), may_link=False)
    exported = [ExportedOrder(1, "request 7", utc_now(), ["sg_ada"], [ADA.digest, ADA_ELSEWHERE.digest])]
    merges = UserMerges(world.database, world.sessions, utc_now)
    await merges.merge(world.user_id, [other.id], CALLER, dry_run=False)
    assert await Erasures(world.database, utc_now).import_orders(exported, CALLER) == 1
    assert await world.job().run(DyingJob(world.database, {})) == {"applied": 1, "held": 0}
    assert await world.places() == []
    bob = await accounts.sign_in(Identity("firebase", "https://other.example", "bob"), may_link=False)
    assert (bob.id, bob.username) == (other.id, "bob")
