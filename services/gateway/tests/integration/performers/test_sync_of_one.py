"""`POST /api/v1/performers/{id}/sync`, with the simulator as the master."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from gateway.settings import GatewaySettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import outbox
from safevideo_testkit.http import Api
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

ON_BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
Store = Callable[..., Awaitable[int]]


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorClient]:
    settings = SimulatorSettings(
        port=0,
        webhook_secret=SecretStr("a webhook secret"),
        api_key=SecretStr("planted-api-key-0123456789"),
        secret_key=SecretStr("planted-secret-key-0123456789"),
    )
    async with running_simulator(settings) as client:
        yield client


@pytest.fixture
def settings(settings: GatewaySettings, simulator: SimulatorClient) -> GatewaySettings:
    return settings.model_copy(
        update={
            "sharegram_api_url": f"{simulator.base_url}/v1",
            "sharegram_api_key": SecretStr("planted-api-key-0123456789"),
            "sharegram_secret_key": SecretStr("planted-secret-key-0123456789"),
            "sharegram_max_retries": 0,
        }
    )


async def at_master(simulator: SimulatorClient, performer_id: str, version: int, **profile: object) -> None:
    order = {"performerId": performer_id, "profile": profile, "status": "active", "version": version, "silent": True}
    await simulator.post("/_sim/performers", order)


async def published(database: Database) -> list[dict[str, object]]:
    async with database.read_connection() as connection:
        payloads = (await connection.scalars(select(outbox.c.payload).order_by(outbox.c.id))).all()
    return [msgspec.json.decode(each) for each in payloads]


@ON_BOTH
async def test_sync_writes_and_publishes_the_differences_once(
    gateway: Api, admin: dict[str, str], simulator: SimulatorClient, store: Store, database: Database
) -> None:
    performer_id = await store("sg_1", version=3, bio="old", status="pending")
    await at_master(simulator, "sg_1", 9, username="jane", displayName="Jane", email="jane@example.com", bio="new")
    before = await gateway.get(f"/api/v1/performers/{performer_id}", admin)  # and into the cache
    assert before.json["data"]["bio"] == "old"

    answer = await gateway.post(f"/api/v1/performers/{performer_id}/sync", admin, {"force": True})
    assert (answer.status, answer.json["data"]["updated"]) == (200, True)
    shown = answer.json["data"]["performer"]
    assert (shown["bio"], shown["status"], shown["version"]) == ("new", "active", 9)
    assert (await gateway.get(f"/api/v1/performers/{performer_id}", admin)).json["data"] == shown

    again = await gateway.post(f"/api/v1/performers/{performer_id}/sync", admin, {"force": True})
    assert again.json["data"] == {"updated": False, "performer": shown}
    [change] = await published(database)
    assert change["changes"] == {"bio": "new", "status": "active"}


@ON_BOTH
async def test_sync_leaves_the_fields_that_a_newer_webhook_wrote(
    gateway: Api, admin: dict[str, str], simulator: SimulatorClient, store: Store
) -> None:
    await store("sg_1", version=12, bio="from a webhook")
    await at_master(simulator, "sg_1", 9, username="jane", bio="older")
    answer = await gateway.post("/api/v1/performers/sg_1/sync", admin, {"force": True})
    assert answer.json["data"]["performer"]["bio"] == "from a webhook"
    assert answer.json["data"]["performer"]["status"] == "active"


async def test_sync_creates_a_performer_that_is_unknown_here(
    gateway: Api, admin: dict[str, str], simulator: SimulatorClient
) -> None:
    await at_master(simulator, "sg_new", 2, username="new")
    answer = await gateway.post("/api/v1/performers/sg_new/sync", admin, {"force": False})
    assert (answer.json["data"]["updated"], answer.json["data"]["performer"]["username"]) == (True, "new")


@ON_BOTH
async def test_sync_without_force_is_refused_for_five_minutes(
    gateway: Api, admin: dict[str, str], simulator: SimulatorClient, store: Store
) -> None:
    await store("sg_1")
    await at_master(simulator, "sg_1", 9, username="jane")
    assert (await gateway.post("/api/v1/performers/sg_1/sync", admin, {})).status == 200
    refused = await gateway.post("/api/v1/performers/sg_1/sync", admin, {})
    assert (refused.status, refused.code) == (429, "SYNC_RATE_LIMITED")
    assert 0 < int(refused.headers["Retry-After"]) <= 300
    assert (await gateway.post("/api/v1/performers/sg_1/sync", admin, {"force": True})).status == 200


@ON_BOTH
async def test_repeated_sync_with_an_idempotency_key_calls_sharegram_once_and_is_not_refused(
    gateway: Api, admin: dict[str, str], simulator: SimulatorClient, store: Store, database: Database
) -> None:
    await store("sg_1", version=3, bio="old")
    await at_master(simulator, "sg_1", 9, username="jane", bio="new")
    keyed = admin | {"Idempotency-Key": "once"}
    first = await gateway.post("/api/v1/performers/sg_1/sync", keyed, {})
    await at_master(simulator, "sg_1", 10, username="jane", bio="newer")
    again = await gateway.post("/api/v1/performers/sg_1/sync", keyed, {})
    assert (first.status, again.status, again.json) == (200, 200, first.json)
    assert again.json["data"]["performer"]["bio"] == "new"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(await published(database)) == 1
    other = await gateway.post("/api/v1/performers/sg_1/sync", keyed, {"force": True})
    assert other.code == "IDEMPOTENCY_KEY_REUSED"
    failed = await gateway.post("/api/v1/performers/sg_2/sync", keyed | {"Idempotency-Key": "two"}, {})
    assert failed.code == "PERFORMER_NOT_FOUND"
    await at_master(simulator, "sg_2", 1, username="new")  # a failure keeps no response
    created = await gateway.post("/api/v1/performers/sg_2/sync", keyed | {"Idempotency-Key": "two"}, {})
    assert created.json["data"]["updated"] is True


async def test_failed_sync_changes_nothing_and_is_in_the_log_of_syncs(
    gateway: Api, admin: dict[str, str], simulator: SimulatorClient, store: Store, logs: Path,
    logged: Callable[[], list[str]],
) -> None:  # fmt: skip
    performer_id = await store("sg_1", bio="old")
    gone = await gateway.post(f"/api/v1/performers/{performer_id}/sync", admin, {})
    assert (gone.status, gone.code) == (404, "PERFORMER_NOT_FOUND")
    await at_master(simulator, "sg_1", 9, bio="x" * 10_000, username="jane")
    await simulator.put("/_sim/faults", {"mode": "down"})
    down = await gateway.post(f"/api/v1/performers/{performer_id}/sync", admin, {})
    assert down.status == 503
    await simulator.put("/_sim/faults", {"mode": "ok"})
    shown = await gateway.get(f"/api/v1/performers/{performer_id}", admin)
    assert (shown.json["data"]["bio"], shown.json["data"]["deletedAt"]) == ("old", None)
    logged()
    lines = [line for line in (logs / "sync.log").read_text().splitlines() if "sync failed" in line]
    assert len(lines) == 2
    assert "PERFORMER_NOT_FOUND" in lines[0]
    later = await gateway.post(f"/api/v1/performers/{performer_id}/sync", admin, {})  # a failure does not count
    assert later.json["data"]["updated"] is True


async def test_sync_of_one_performer_needs_the_role_admin(
    gateway: Api, key: Callable[[Role], Awaitable[dict[str, str]]], store: Store
) -> None:
    await store("sg_1")
    for role in (Role.PERFORMER, Role.MODERATOR, Role.AUDITOR):
        answer = await gateway.post("/api/v1/performers/sg_1/sync", await key(role), {"force": True})
        assert answer.code == "FORBIDDEN"
