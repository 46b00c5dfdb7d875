"""Accounts as admins see and change them over HTTP, on two replicas, by people who sign in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import pytest

from gateway.settings import GatewaySettings
from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.users.rights import RoleGrant
from safevideo_common.users.role_grants import RoleGrants
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Answer, Api, Json
from safevideo_testkit.people import bearer, signed_in, token_of, unified_login
from sharegram_simulator.client import SimulatorClient

PATH = "/api/v1/admin/users"
OPERATOR = Caller("root", "cli", None, "r1")
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


@pytest.fixture
async def admin(site: Api, simulator: SimulatorClient, database: Database) -> Json:
    """The first admin, whose role waited for the first sign-in."""
    await RoleGrants(database, utc_now).add("boss@example.com", RoleGrant(Role.ADMIN), "first admin", OPERATOR)
    return await signed_in(site, simulator, sub="sg_boss", email="boss@example.com")


@pytest.fixture
async def jane(site: Api, simulator: SimulatorClient) -> Json:
    return await signed_in(site, simulator)


async def act(site: Api, by: Json, user_id: int, path: str, version: int, **more: object) -> Answer:
    key = more.pop("key", None)
    headers = bearer(by) | ({"Idempotency-Key": str(key)} if key else {})
    return await site.post(f"{PATH}/{user_id}/{path}", headers, {"reason": "ticket 114", "version": version, **more})


async def test_admin_finds_an_account_and_sees_all_of_it(site: Api, admin: Json, jane: Json) -> None:
    user_id = jane["user"]["id"]
    listed = (await site.get(f"{PATH}?search=jane@example.com", bearer(admin))).json
    assert [each["id"] for each in listed["data"]] == [user_id]
    assert listed["pagination"]["totalItems"] == 1
    page = (await site.get(f"{PATH}?limit=1&after={user_id}&order=desc", bearer(admin))).json
    assert [each["role"] for each in page["data"]] == ["admin"]
    shown = (await site.get(f"{PATH}/{admin['user']['id']}", bearer(admin))).json["data"]
    assert [each["subject"] for each in shown["identities"]] == ["sg_boss"]
    (session,) = shown["sessions"]
    assert (session["sessionId"], session["address"]) == (admin["sessionId"], "127.0.0.1")
    (change,) = shown["changes"]
    assert (change["action"], change["actor"], change["details"]["reason"]) == (
        "users.role_changed",
        "root",
        "first admin",
    )
    assert (shown["holds"], shown["orders"], shown["kycRequests"], shown["members"]) == ([], [], [], [])
    assert (await site.get(f"{PATH}/999", bearer(admin))).code == "NOT_FOUND"
    assert (await site.get(PATH, bearer(jane))).code == "FORBIDDEN"


async def test_acts_count_within_a_second_on_every_replica(
    start: Start, sso_settings: GatewaySettings, site: Api, simulator: SimulatorClient, admin: Json, jane: Json
) -> None:
    user_id = jane["user"]["id"]

    async with start(sso_settings) as replica:

        async def status(path: str = "/api/v1/kyc/pending") -> int:
            return (await replica.get(path, bearer(jane))).status

        assert await status() == 403
        until = datetime(2999, 1, 1, tzinfo=UTC).isoformat()
        first = await act(site, admin, user_id, "role", 0, role="moderator", until=until, key="k1")
        assert (first.status, first.json["data"]["role"], first.json["data"]["version"]) == (200, "moderator", 1)
        again = await act(site, admin, user_id, "role", 0, role="moderator", until=until, key="k1")
        assert (again.headers["Idempotent-Replayed"], again.json["data"]) == ("true", first.json["data"])
        assert (await site.get("/api/v1/kyc/pending", bearer(jane))).status == 200
        await eventually(lambda: _is(status, 200))

        stale = await act(site, admin, user_id, "suspend", 0)
        assert (stale.status, stale.code, stale.json["error"]["details"]) == (409, "VERSION_CONFLICT", {"version": 1})
        suspended = await act(site, admin, user_id, "suspend", 1)
        assert suspended.json["data"]["state"] == "suspended"
        assert (await site.get("/api/v1/performers", bearer(jane))).status == 401
        await eventually(lambda: _is(status, 401))
        refused = await unified_login(replica, await token_of(simulator))
        assert (refused.status, refused.code) == (401, "SSO_AUTH_FAILED")

        assert (await act(site, admin, user_id, "reinstate", 2)).json["data"]["state"] == "active"
        assert await status() == 401
        jane |= await signed_in(site, simulator)
        assert await status() == 200
        assert (await act(site, admin, user_id, "sessions/end", 3)).json["data"]["version"] == 3
        await eventually(lambda: _is(status, 401))
        assert (await site.get(f"{PATH}/{user_id}", bearer(admin))).json["data"]["sessions"] == []


async def test_nobody_changes_their_own_rights_and_the_last_admin_stays(
    site: Api, admin: Json, jane: Json, key: Callable[[Role], object]
) -> None:
    mine = await act(site, admin, admin["user"]["id"], "role", 1, role="performer")
    assert (mine.status, mine.json["error"]["details"]) == (403, {"reason": "self"})
    system = await key(Role.ADMIN)  # type: ignore[misc]  # the fixture is a coroutine function
    body = {"role": "performer", "reason": "ticket", "version": 1}
    last = await site.post(f"{PATH}/{admin['user']['id']}/role", system, body)
    assert (last.status, last.code) == (409, "LAST_ADMIN")
    merged = await site.post(
        f"{PATH}/merge", system, {"primaryUserId": jane["user"]["id"], "duplicateUserIds": [admin["user"]["id"]]}
    )
    assert (merged.status, merged.code) == (409, "LAST_ADMIN")
    assert (await act(site, admin, jane["user"]["id"], "role", 0, role="king")).code == "VALIDATION_ERROR"


async def test_waiting_roles_are_listed(site: Api, admin: Json, database: Database) -> None:
    await RoleGrants(database, utc_now).add("ann@example.com", RoleGrant(Role.AUDITOR), "audit", OPERATOR)
    (waiting,) = (await site.get(f"{PATH}/grants", bearer(admin))).json["data"]
    assert (waiting["email"], waiting["role"], waiting["grantedBy"]) == ("ann@example.com", "auditor", "root")


async def test_claim_gives_a_role_by_a_setting_and_its_loss_takes_it_back(
    start: Start, sso_settings: GatewaySettings, simulator: SimulatorClient
) -> None:
    changes = {
        "sharegram_role_claim": "realm.roles",
        "sharegram_roles_by_claim": '{"mods": "moderator", "boss": "admin"}',
    }

    async def role(site: Api, **claims: object) -> str:
        return str((await signed_in(site, simulator, **claims))["user"]["role"])

    async with start(sso_settings.model_copy(update=changes)) as site:
        assert await role(site) == "performer"
        assert await role(site, realm={"roles": ["mods", "kings", 7]}) == "moderator"
        assert await role(site, realm={"roles": "boss"}) == "admin"
        assert await role(site, realm={"roles": {"boss": True}}) == "performer"
    async with start(sso_settings) as site:
        assert await role(site, realm={"roles": ["boss"]}, role="admin") == "performer"


async def _is(status: Callable[[], object], expected: int) -> bool:
    return await status() == expected  # type: ignore[misc, no-any-return]  # a coroutine function
