"""Who gets in with an API key, who does not, and what an operator can see of its use."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import ApiKey, Role
from safevideo_common.database.engine import Database
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.http import Api

PERFORMER = "/api/v1/performers/1"
EVENTS = "/api/v1/admin/events"
EVENT = "/api/v1/admin/events/1"
MakeKey = Callable[[Role], Awaitable[dict[str, str]]]


async def the_key(database: Database) -> ApiKey:
    async with database.read_connection() as connection:
        (key,) = await api_keys.all_keys(connection)
    return key


@pytest.mark.parametrize("path", [PERFORMER, EVENTS, EVENT])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Client": "a-admin"},
        {"X-API-Key": "safevideo_guess"},
        {"X-API-Client": "a-admin", "X-API-Key": "safevideo_guess"},
        {"X-API-Client": "a-admin", "X-API-Key": ""},
        {"X-API-Client": "a-admin", "X-API-Key": "k" * 20_000},
        {"X-API-Client": "a" * 20_000, "X-API-Key": "safevideo_guess"},
        {"X-API-Client": "a-admin", "X-API-Key": "safevideo_é"},
        {"X-API-Client": "' OR 1=1 --", "X-API-Key": "' OR 1=1 --"},
        {"Authorization": "Bearer safevideo_guess"},
    ],
)
async def test_api_rejects_requests_without_a_valid_key(
    gateway: Api, admin: dict[str, str], path: str, headers: dict[str, str]
) -> None:
    answer = await gateway.get(path, headers)
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert admin["X-API-Key"].encode() not in answer.body


async def test_api_rejects_a_key_of_another_client(gateway: Api, admin: dict[str, str], user: dict[str, str]) -> None:
    answer = await gateway.get(EVENTS, {**admin, "X-API-Client": user["X-API-Client"]})
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("role", [Role.USER, Role.PERFORMER, Role.MODERATOR])
@pytest.mark.parametrize("path", [EVENTS, EVENT])
async def test_events_need_the_role_admin(gateway: Api, key: MakeKey, role: Role, path: str) -> None:
    answer = await gateway.get(path, await key(role))
    assert (answer.status, answer.code) == (403, "FORBIDDEN")


@pytest.mark.parametrize("role", Role)
async def test_performers_need_any_role(gateway: Api, key: MakeKey, role: Role) -> None:
    assert (await gateway.get(PERFORMER, await key(role))).code == "PERFORMER_NOT_FOUND"


async def test_api_rejects_an_expired_key(gateway: Api, database: Database) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    async with database.transaction() as tx:
        secret = await api_keys.create(tx, "late", Role.ADMIN, past, past + timedelta(days=1))
    answer = await gateway.get(EVENTS, {"X-API-Client": "late", "X-API-Key": secret})
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


async def test_api_rejects_a_revoked_key(gateway: Api, database: Database, admin: dict[str, str]) -> None:
    async with database.transaction() as tx:
        assert await api_keys.revoke(tx, (await the_key(database)).id, datetime.now(UTC))
    answer = await gateway.get(EVENTS, admin)
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


async def test_api_accepts_both_keys_of_a_client(gateway: Api, admin: dict[str, str], key: MakeKey) -> None:
    second = await key(Role.ADMIN)
    assert (await gateway.get(EVENTS, admin)).status == 200
    assert (await gateway.get(EVENTS, second)).status == 200


async def test_api_records_the_last_use_of_a_key(gateway: Api, database: Database, admin: dict[str, str]) -> None:
    began = datetime.now(UTC)
    assert (await gateway.get(EVENTS, admin)).status == 200
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (used := (await the_key(database)).last_used_at) is None:
            pass
    assert began <= used <= datetime.now(UTC)


async def test_unknown_path_is_404_without_a_key(gateway: Api) -> None:
    answer = await gateway.get("/api/v1/nothing")
    assert (answer.status, answer.code) == (404, "NOT_FOUND")
