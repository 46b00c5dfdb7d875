"""A cast in a world: accounts, sessions, performers and KYC requests of people, each with a planted word."""

import copy
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.guard import CLIENT_ADDRESS
from gateway.sign_in.provider import IdentityProvider
from gateway.sign_in.service import SignedIn
from safevideo_common.audit.store import Caller
from safevideo_common.auth.principal import Principal
from safevideo_common.auth.tokens import VerifiedToken
from safevideo_common.clock import utc_now
from safevideo_common.database import performers as performers_store
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import kyc_documents, kyc_requests, users
from safevideo_common.domain.performers import DEFAULTS, Performer
from safevideo_common.users.store import Identity
from safevideo_common.web.correlation import CORRELATION, correlate
from safevideo_testkit.people_model.model import CAST, Model, Session, Someone
from safevideo_testkit.people_model.replica import Replica
from safevideo_testkit.people_model.world import NOTHING, Stored, World, long_ago

CALLER: Final = Caller("admin-1", "admin", None, "r1")
ISSUERS: Final = {"sharegram": "https://sharegram.example", "okta": "https://okta.example"}


class Saved(NamedTuple):
    """A stage that can be put back."""

    stored: Stored
    model: Model
    accounts: Mapping[str, int]
    requests: Mapping[str, int]


@dataclass(slots=True)
class Stage:
    """The world, the model of it, and which row belongs to whom."""

    world: World
    model: Model = field(default_factory=Model)
    accounts: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    began: Stored = NOTHING
    """What was stored when this stage was put back."""

    async def save(self) -> Saved:
        """Return what `put_back` needs."""
        return Saved(await self.world.save(), copy.deepcopy(self.model), dict(self.accounts), dict(self.requests))

    async def put_back(self, saved: Saved) -> None:
        """Make everything as it was."""
        await self.world.put_back(saved.stored)
        self.model = copy.deepcopy(saved.model)
        self.accounts, self.requests = dict(saved.accounts), dict(saved.requests)
        self.violations, self.began = [], saved.stored

    def name_of(self, user_id: int) -> str:
        """Return whose account this is."""
        return next((name for name, each in self.accounts.items() if each == user_id), "nobody's")

    def principal(self, name: str) -> Principal:
        """Return the caller who a person is after signing in."""
        root = self.accounts[self.model.root(name)]
        mine = CAST[name].sharegram_id if CAST[name].performer else None
        return Principal(f"user:{root}", self.model.role(name), root, performer_id=mine)


def identity_of(someone: Someone) -> Identity:
    """Return the identity with which a person signs in."""
    provider = someone.provider or ("sharegram" if someone.performer else "okta")
    subject = someone.sharegram_id if provider == "sharegram" else f"{someone.word}-subject"
    email = f"{someone.word}@example.com"
    return Identity(provider, ISSUERS[provider], subject, email, True, someone.word, someone.word, None)


async def sign_in(replica: Replica, someone: Someone) -> SignedIn:
    """Sign in, as the gateway does once the provider's token was verified."""
    identity, service = identity_of(someone), replica.services.sign_in
    request = _sign_in_request()
    request[CLIENT_ADDRESS], request[CORRELATION] = "192.0.2.1", correlate(request.headers)
    token = VerifiedToken(identity.issuer, identity.subject, utc_now(), utc_now() + timedelta(hours=1), {})
    provider = SimpleNamespace(
        name=identity.provider, identity_of=lambda _: identity, settings=SimpleNamespace(links_by_email=True)
    )
    began_at = await replica.services.sessions.now()
    return await service.sign_in(request, cast(IdentityProvider, provider), token, began_at)


@cache
def _sign_in_request() -> web.Request:
    return make_mocked_request("POST", "/auth/sso/unified-login")


@cache
def request_with(token: str) -> web.Request:
    """Return a request that shows an access token. To make one takes longer than to answer it."""
    return make_mocked_request("GET", "/api/v1/kyc/status", headers={"Authorization": f"Bearer {token}"})


async def set_up(world: World) -> Stage:
    """Bring the cast on: accounts with roles, performers, one session each."""
    await world.put_back(NOTHING)
    stage = Stage(world)
    now = world.time.now()
    async with world.database.transaction() as tx:
        for someone in CAST.values():
            if someone.performer:
                fields = {**DEFAULTS, "username": someone.word, "display_name": someone.word, "bio": someone.word}
                await performers_store.insert_new(tx, [Performer(someone.sharegram_id, fields)], now)
    for name, someone in CAST.items():
        if someone.provider is None:
            stage.accounts[name] = await _import(world.database, someone, stage)
    for name, someone in CAST.items():
        if someone.provider is not None:
            signed_in = await sign_in(world.judge, someone)
            stage.accounts[name] = signed_in.account.id
            await world.role_by_sql(signed_in.account.id, someone.role)
            token = world.judge.services.sign_in.access_token(signed_in)
            stage.model.sessions.append(Session(token, name, name))
    world.restart()
    return stage


async def _import(database: Database, someone: Someone, stage: Stage) -> int:
    now = stage.world.time.now()
    row = {
        "email": f"{someone.word}@example.com", "is_email_verified": True,
        "sharegram_id": someone.sharegram_id if someone.performer else None,
        "username": someone.word, "display_name": someone.word, "role": someone.role, "created_at": now,
        "updated_at": now,
    }  # fmt: skip
    async with database.transaction() as tx:
        return int((await tx.execute(insert(users).values(row))).lastrowid)


async def plant_request(
    stage: Stage, name: str, status: str, *, days_ago: int = 1, slots: int = 3, key: str = "", **more: object
) -> None:
    """Write a KYC request of a person with documents, as it is in a status."""
    world, someone, at = stage.world, CAST[name], long_ago(stage.world, days_ago)
    key = key or f"{name} {status}"
    values: dict[str, object] = {
        "performer_id": someone.sharegram_id, "status": status, "created_at": at, "updated_at": at,
        "applicant": json.dumps({"firstName": someone.word}).encode(), "document_type": "passport",
    }  # fmt: skip
    if status in ("in_progress", "in_review", "verified", "rejected"):
        values["verification_id"] = f"ver-{name}-{status}"
        world.sharegram.verifications[f"ver-{name}-{status}"] = someone.sharegram_id
    if status in ("in_review", "verified", "rejected"):
        result = {"in_review": "review", "verified": "passed", "rejected": "failed"}[status]
        checks = {"name": someone.word}
        values |= {
            "result": {"status": result, "riskScore": 70.0, "checks": checks}, "risk_score": 70.0, "result_at": at,
        }  # fmt: skip
    if status == "verified":
        values |= {"expires_at": at, "expiry_due_at": at}
    values |= more
    async with world.database.transaction() as tx:
        request_id = int((await tx.execute(insert(kyc_requests).values(values))).lastrowid)
        for slot in ("id_front", "selfie", "proof_of_address")[:slots]:
            await _plant_document(tx, world, someone, request_id, slot)
    stage.requests[key] = request_id


async def _plant_document(tx: AsyncConnection, world: World, someone: Someone, request_id: int, slot: str) -> None:
    content = f"{someone.word} {slot}".encode()
    services = world.judge.services
    file_name = await services.encrypted.put(f"kyc-document {request_id} {slot}", content)
    row = {
        "request_id": request_id, "slot": slot, "document_type": "passport", "media_type": "image/jpeg",
        "sha256": f"{request_id:032x}{sum(slot.encode()):032x}", "size": len(content), "file_name": file_name,
        "uploaded_at": long_ago(world, 1),
    }  # fmt: skip
    await tx.execute(insert(kyc_documents).values(row))


@dataclass(slots=True)
class Attempt:
    """An attempt of a job on a replica. A repetition goes on at the cursor."""

    replica: Replica
    parameters: Mapping[str, object]
    job_type: str = "job"
    cursor: Mapping[str, object] | None = None
    job_id: int = 1
    attempt: int = 1
    request_id: str | None = "r1"
    is_shutting_down: bool = False

    @asynccontextmanager
    async def step(
        self, cursor: Mapping[str, object] | None = None, *, processed: int | None = None, total: int | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """See `JobContext`."""
        async with self.replica.database.transaction() as tx:
            yield tx
        self.cursor = cursor or self.cursor

    async def checkpoint(self, tx: AsyncConnection, cursor: Any = None, **_counts: object) -> None:
        """See `JobContext`."""

    async def raise_if_stopped(self) -> None:
        """See `JobContext`."""
