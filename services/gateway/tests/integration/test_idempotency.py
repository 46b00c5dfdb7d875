"""`Idempotency-Key` on POSTs that create: one effect, the same response again, and nothing lost by a failure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from sqlalchemy import func, insert, select, update

from gateway.app import ENDPOINTS, build_app
from gateway.audit.retention import Retention
from gateway.http.idempotency import CLAIM, KEY_HEADER, REPLAYED_HEADER, IdempotentRequests, delete_expired
from gateway.settings import GatewaySettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.principal import PRINCIPAL, Principal
from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.database.dialect import now_plus
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs, idempotency_keys, legal_holds, schedule_fires, users
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.app import base_app
from safevideo_common.web.responses import success
from safevideo_testkit.http import Answer, Api, running

REPLAYS = "/api/v1/admin/replays"
BODY = {"topic": "sharegram.performer.v1", "target": "sync-worker"}
BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)


@pytest.fixture
def post(gateway: Api, admin: dict[str, str]) -> Callable[..., Awaitable[Answer]]:
    async def post(key: str, body: object = BODY, headers: dict[str, str] = admin) -> Answer:
        sent = {**headers, KEY_HEADER: key}
        async with gateway.session.post(gateway.base_url + REPLAYS, json=body, headers=sent) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    return post


async def count(database: Database, table: object = batch_jobs) -> int:
    async with database.read_connection() as connection:
        return await connection.scalar(select(func.count()).select_from(table)) or 0  # type: ignore[arg-type]


Post = Callable[..., Awaitable[Answer]]


@BOTH
async def test_repetition_gets_the_first_response_and_has_no_effect(post: Post, database: Database) -> None:
    first, again = await post("a"), await post("a")
    assert (first.status, again.status) == (202, 202)
    assert again.json == first.json
    assert (first.headers.get(REPLAYED_HEADER), again.headers.get(REPLAYED_HEADER)) == (None, "true")
    assert await count(database) == 1
    assert (await post("b")).json["data"]["jobId"] != first.json["data"]["jobId"]


@pytest.mark.parametrize(
    ("path", "body", "table"),
    [("kyc/resync", {"requestIds": [1]}, batch_jobs), ("users/1/hold", {"reason": "case 7"}, legal_holds)],
)
async def test_repeated_resync_or_hold_has_one_effect(
    gateway: Api, admin: dict[str, str], database: Database, path: str, body: object, table: object
) -> None:
    now = utc_now()
    async with database.transaction() as tx:
        await kyc_requests.insert_request(tx, "sg_1", "ver_1", KycStatus.IN_PROGRESS, now)
        await tx.execute(insert(users).values(created_at=now, updated_at=now))
    keyed = admin | {KEY_HEADER: "a"}
    first, again = [await gateway.post(f"/api/v1/admin/{path}", keyed, body) for _ in range(2)]
    assert (first.status, again.json, again.headers[REPLAYED_HEADER]) == (again.status, first.json, "true")
    assert first.status in {201, 202}
    assert await count(database, table) == 1


REPEATABLE = {
    "/api/v1/kyc/{id}/documents": "a further file for the same side replaces the first one",
    "/api/v1/admin/jobs/{id}/retry": "a repetition finds the job unfinished",
    "/api/v1/admin/jobs/{id}/cancel": "a repetition finds the job finished, or asks for the same",
    "/api/v1/performers/sync/cancel": "a repetition finds the job finished, or asks for the same",
    "/api/v1/admin/events/{id}/retry": "a repetition makes the same row due",
}
"""POSTs that answer 201 or 202 and may be repeated without a key."""


async def test_each_post_that_creates_takes_a_key(
    settings: GatewaySettings, embedded_broker: Broker, log: FilteringBoundLogger
) -> None:
    app = build_app(settings, embedded_broker, log)
    async with running(app, settings):
        endpoints = app[ENDPOINTS]
    creating = {each.path: each for each in endpoints if each.method == "POST" and each.returns.status in {201, 202}}
    assert {path for path, each in creating.items() if not each.takes_idempotency_key} == set(REPEATABLE)


async def test_the_key_with_another_request_is_422(post: Post, database: Database) -> None:
    await post("a")
    other = await post("a", BODY | {"force": True})
    assert (other.status, other.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert await count(database) == 1


async def test_a_failed_request_keeps_nothing(post: Post, database: Database) -> None:
    assert (await post("a", {"topic": "nothing", "target": "sync-worker"})).status == 400
    assert await count(database, idempotency_keys) == 0
    assert (await post("a")).status == 202


async def test_keys_belong_to_their_caller(
    post: Post, key: Callable[[Role], Awaitable[dict[str, str]]], database: Database
) -> None:
    await post("a")
    async with database.transaction() as tx:
        await tx.execute(update(idempotency_keys).values(principal="somebody-else"))
    assert REPLAYED_HEADER not in (await post("a")).headers
    assert await count(database) == 2


@pytest.mark.parametrize("text", ["", "a b", "a" * 129, "é"])
async def test_malformed_key_is_a_validation_error(post: Post, text: str) -> None:
    answer = await post(text)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")


@BOTH
async def test_many_repetitions_at_once_have_one_effect(post: Post, database: Database) -> None:
    answers = await asyncio.gather(*(post("a") for _ in range(8)))
    assert {each.status for each in answers} <= {202, 409}
    assert len({each.json["data"]["jobId"] for each in answers if each.status == 202}) == 1
    assert {each.code for each in answers if each.status == 409} <= {"IDEMPOTENCY_KEY_IN_USE"}
    assert await count(database) == 1


class Effect:
    """A handler with an effect in the database, which waits until it may act."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.running = asyncio.Event()
        self.may_act = asyncio.Event()
        self.fails = False

    async def act(self, request: web.Request) -> web.Response:
        self.running.set()
        await self.may_act.wait()
        async with self.database.transaction() as tx:
            await tx.execute(insert(schedule_fires).values(name=request.headers["X-Effect"], slot=utc_now()))
            await request[CLAIM].keep(tx, 201, {"done": True})
        if self.fails:
            raise ZeroDivisionError
        return success({"done": True}, status=201)


@pytest.fixture
def effect(database: Database) -> Effect:
    return Effect(database)


@pytest.fixture
async def client(effect: Effect, log: FilteringBoundLogger) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    once = IdempotentRequests(effect.database).wrap(effect.act)

    async def handler(request: web.Request) -> web.StreamResponse:
        request[PRINCIPAL] = Principal("ops", Role.ADMIN)
        return await once(request)

    app = base_app(log, CollectorRegistry())
    app.router.add_post("/", handler)
    async with TestClient(TestServer(app)) as client:
        yield client


def headers(effect: str = "first") -> dict[str, str]:
    return {KEY_HEADER: "a", "X-Effect": effect}


@BOTH
async def test_repetition_while_the_first_runs_is_409(
    client: TestClient[web.Request, web.Application], effect: Effect
) -> None:
    first = asyncio.create_task(_post(client))
    await effect.running.wait()
    assert await _post(client) == (409, "IDEMPOTENCY_KEY_IN_USE")
    effect.may_act.set()
    assert (await first)[0] == 201
    assert (await _post(client))[0] == 201
    assert await count(effect.database, schedule_fires) == 1


@BOTH
async def test_claim_of_a_dead_process_ends_and_fences_it(
    client: TestClient[web.Request, web.Application], effect: Effect, database: Database
) -> None:
    slow = asyncio.create_task(_post(client, "slow"))
    await effect.running.wait()
    async with database.transaction() as tx:  # as if its time had passed
        await tx.execute(update(idempotency_keys).values(expires_at=now_plus(-1)))
    effect.may_act.set()
    quick = Effect(database)
    quick.may_act.set()
    async with database.transaction() as tx:
        await tx.execute(update(idempotency_keys).values(token="of another process"))
    assert await slow == (409, "IDEMPOTENCY_KEY_IN_USE")
    assert await count(database, schedule_fires) == 0  # its transaction was rolled back
    assert (await _post(client, "quick"))[0] == 201
    assert await count(database, schedule_fires) == 1


async def test_a_failure_after_the_effect_keeps_the_response(
    client: TestClient[web.Request, web.Application], effect: Effect
) -> None:
    effect.may_act.set()
    effect.fails = True
    assert (await _post(client))[0] == 500
    assert (await _post(client))[0] == 201
    assert await count(effect.database, schedule_fires) == 1


async def _post(client: TestClient[web.Request, web.Application], name: str = "first") -> tuple[int, str | None]:
    async with client.post("/", headers=headers(name)) as answer:
        return answer.status, (await answer.json()).get("error", {}).get("code")


@BOTH
async def test_retention_deletes_what_is_expired(database: Database, log: FilteringBoundLogger) -> None:
    rows = [
        {
            "principal": "ops", "route": "POST /", "idempotency_key": name, "fingerprint": "", "token": name,
            "expires_at": now_plus(seconds),
        }
        for name, seconds in (("old", -1.0), ("new", 60.0))
    ]  # fmt: skip
    async with database.transaction() as tx:
        for row in rows:
            await tx.execute(insert(idempotency_keys).values(row))
    assert await Retention(database, utc_now, log, audit_days=365).delete_old() == 1
    async with database.transaction() as tx:
        assert await delete_expired(tx, 10) == 0
    assert await count(database, idempotency_keys) == 1
