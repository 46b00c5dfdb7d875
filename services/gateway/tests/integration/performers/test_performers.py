"""`GET /api/v1/performers/{id}`, on every kind of database."""

from collections.abc import Awaitable, Callable

import pytest

from safevideo_common.auth.api_keys import Role
from safevideo_common.domain.outcomes import Status
from safevideo_testkit.http import Api

ON_BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
Store = Callable[..., Awaitable[int]]
UNKNOWN_ID = 987_654


@ON_BOTH
async def test_performer_has_the_fields_of_the_contract(gateway: Api, admin: dict[str, str], store: Store) -> None:
    performer_id = await store("sg_1", bio="Hi", verified=True, profile_image="https://img.test/1", status="active")
    answer = await gateway.get(f"/api/v1/performers/{performer_id}", admin)
    assert answer.status == 200
    assert answer.json == {
        "success": True,
        "data": {
            "id": performer_id,
            "performerId": "sg_1",
            "username": "jane",
            "displayName": "Jane",
            "email": "jane@example.com",
            "profileImage": "https://img.test/1",
            "bio": "Hi",
            "verified": True,
            "status": "active",
            "sharegramStatus": "active",
            "decision": None,
            "version": 3,
            "createdAt": "2026-11-24T12:00:00.000Z",
            "updatedAt": "2026-11-24T12:00:00.000Z",
            "deletedAt": None,
        },
    }


@ON_BOTH
async def test_performer_is_found_by_both_ids(gateway: Api, user: dict[str, str], store: Store) -> None:
    performer_id = await store("sg_1")
    await store("sg_2")
    by_id = await gateway.get(f"/api/v1/performers/{performer_id}", user)
    by_sharegram_id = await gateway.get("/api/v1/performers/sg_1", user)
    assert by_id.json["data"]["performerId"] == "sg_1"
    assert by_sharegram_id.json == by_id.json


@ON_BOTH
async def test_performer_ids_are_case_sensitive(gateway: Api, user: dict[str, str], store: Store) -> None:
    await store("sg_Ab")
    assert (await gateway.get("/api/v1/performers/sg_aB", user)).code == "PERFORMER_NOT_FOUND"
    assert (await gateway.get("/api/v1/performers/sg_Ab", user)).status == 200


@ON_BOTH
async def test_performer_fields_that_were_never_sent_are_null(gateway: Api, user: dict[str, str], store: Store) -> None:
    await store("sg_1", version=None, username=None)
    shown = (await gateway.get("/api/v1/performers/sg_1", user)).json["data"]
    assert (shown["username"], shown["bio"], shown["version"]) == (None, None, None)


@pytest.mark.parametrize(
    ("role", "sees"), [(Role.USER, False), (Role.PERFORMER, False), (Role.MODERATOR, True), (Role.ADMIN, True)]
)
async def test_performer_email_needs_the_role_moderator(
    gateway: Api, key: Callable[[Role], Awaitable[dict[str, str]]], store: Store, role: Role, sees: bool
) -> None:
    performer_id = await store("sg_1")
    headers = await key(role)
    for _ in range(2):  # from the database, then from the cache
        shown = (await gateway.get(f"/api/v1/performers/{performer_id}", headers)).json["data"]
        assert ("email" in shown) is sees


@pytest.mark.parametrize("unknown", [str(UNKNOWN_ID), "0", "9" * 18, "sg_nobody", "sg_%25", "sg_'--"])
@ON_BOTH
async def test_unknown_performer_is_404(gateway: Api, user: dict[str, str], unknown: str) -> None:
    answer = await gateway.get(f"/api/v1/performers/{unknown}", user)
    assert (answer.status, answer.code) == (404, "PERFORMER_NOT_FOUND")


@pytest.mark.parametrize(
    "garbage",
    [
        *("x", "-1", "1.5", "1e3", "%2B1", "%201", "1%0A", "9" * 19, "%D9%A1", "%00", "%FF%FE"),
        *("sg_", "sg_a%00", "sg_%C3%A9", "sg_a%20b", "sg_" + "a" * 200, "7" * 5_000),
    ],
)
async def test_invalid_performer_id_is_a_validation_error(gateway: Api, user: dict[str, str], garbage: str) -> None:
    answer = await gateway.get(f"/api/v1/performers/{garbage}", user)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {"id"}


async def test_too_long_request_line_has_the_standard_error_body(gateway: Api, user: dict[str, str]) -> None:
    answer = await gateway.get(f"/api/v1/performers/{'7' * 10_240}", user)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")


async def test_performer_endpoint_allows_only_get(gateway: Api, admin: dict[str, str]) -> None:
    answer = await gateway.request("DELETE", "/api/v1/performers/1", admin)
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")


@ON_BOTH
async def test_history_has_each_field_with_its_last_writer(
    gateway: Api, admin: dict[str, str], store: Store, record: Store
) -> None:
    performer_id = await store("sg_1", bio="Hi")
    await record("evt-dead", status=Status.DEAD, reason="BODY_INVALID: data: x")
    by_id = await gateway.get(f"/api/v1/admin/performers/{performer_id}/history", admin)
    assert by_id.status == 200, by_id
    assert by_id.json["data"]["performerId"] == "sg_1"
    fields = {each["field"]: each for each in by_id.json["data"]["fields"]}
    written = {"version": 3, "occurredAt": "2023-11-14T22:13:20.000Z", "eventId": None}
    assert fields["bio"] == {"field": "bio", "value": "Hi", **written}
    assert fields["email"]["value"] == "jane@example.com"
    assert [each["eventId"] for each in by_id.json["data"]["unapplied"]] == ["evt-dead"]
    assert (await gateway.get("/api/v1/admin/performers/sg_1/history", admin)).json == by_id.json


async def test_history_of_an_unknown_performer_is_404_and_an_auditor_sees_no_email(
    gateway: Api, key: Callable[[Role], Awaitable[dict[str, str]]], store: Store
) -> None:
    await store("sg_1")
    auditor = await key(Role.AUDITOR)
    fields = (await gateway.get("/api/v1/admin/performers/sg_1/history", auditor)).json["data"]["fields"]
    assert [each["value"] for each in fields if each["field"] == "email"] == [None]
    for path, status, code in (("sg_2", 404, "PERFORMER_NOT_FOUND"), ("x", 400, "VALIDATION_ERROR")):
        answer = await gateway.get(f"/api/v1/admin/performers/{path}/history", auditor)
        assert (answer.status, answer.code) == (status, code)
