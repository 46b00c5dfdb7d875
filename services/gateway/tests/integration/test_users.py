"""`/api/v1/admin/users`: duplicates listed, merged and unmerged over HTTP."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import users
from safevideo_testkit.http import Answer, Api

PATH = "/api/v1/admin/users"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Post = Callable[[str, object], Awaitable[Answer]]


@pytest.fixture
async def people(database: Database) -> None:
    """Users 1 to 3 with one e-mail, and 4 with another."""
    async with database.transaction() as tx:
        for email in ("jane@example.com", "JANE@example.com", "jane@example.com", "ann@example.com"):
            await tx.execute(insert(users).values(email=email, created_at=NOW, updated_at=NOW, username=email[:4]))


@pytest.fixture
def post(gateway: Api, admin: dict[str, str]) -> Post:
    async def post(path: str, body: object) -> Answer:
        url = f"{gateway.base_url}{PATH}{path}"
        async with gateway.session.post(url, data=json.dumps(body), headers=admin) as response:
            return Answer(response.status, response.headers, await response.read())

    return post


@pytest.mark.usefixtures("people")
async def test_duplicates_are_listed_merged_and_unmerged(gateway: Api, admin: dict[str, str], post: Post) -> None:
    listed = (await gateway.get(f"{PATH}/duplicates", admin)).json
    assert [[user["id"] for user in group["users"]] for group in listed["data"]] == [[1, 2, 3]]
    assert listed["pagination"]["totalItems"] == 1

    order = {"primaryUserId": 1, "duplicateUserIds": [2, 3]}
    preview = (await post("/merge", order | {"dryRun": True})).json["data"]
    assert (preview["dryRun"], preview["role"], preview["notMoved"]) == (True, "performer", [])
    merged = await post("/merge", order)
    assert merged.json["data"]["dryRun"] is False
    assert (await post("/merge", order)).json == merged.json  # its answer may have been lost
    assert (await gateway.get(f"{PATH}/duplicates", admin)).json["data"] == []
    again = await post("/merge", {"primaryUserId": 4, "duplicateUserIds": [2, 3]})
    assert (again.status, again.code, again.json["error"]["details"]) == (
        409,
        "INVALID_STATUS_TRANSITION",
        {"userIds": [2, 3]},
    )
    assert (await post("/2/unmerge", {})).json["data"]["dryRun"] is True
    assert (await post("/2/unmerge", {"dryRun": False})).status == 200
    listed = (await gateway.get(f"{PATH}/duplicates", admin)).json["data"]
    assert [[user["id"] for user in group["users"]] for group in listed] == [[1, 2]]


IMPOSSIBLE: list[tuple[dict[str, object], int, str]] = [
    ({"primaryUserId": 1, "duplicateUserIds": [99]}, 404, "NOT_FOUND"),
    ({"primaryUserId": 99, "duplicateUserIds": [1]}, 404, "NOT_FOUND"),
    ({"primaryUserId": 1, "duplicateUserIds": [1]}, 400, "VALIDATION_ERROR"),
    ({"primaryUserId": 1, "duplicateUserIds": []}, 400, "VALIDATION_ERROR"),
    ({"primaryUserId": 1, "duplicateUserIds": ["2"]}, 400, "VALIDATION_ERROR"),
    ({"primaryUserId": 1, "duplicateUserIds": list(range(2, 60))}, 400, "VALIDATION_ERROR"),
    ({"primaryUserId": 2**63, "duplicateUserIds": [1]}, 400, "VALIDATION_ERROR"),
    ({"primaryUserId": 1, "duplicateUserIds": [2], "role": "admin"}, 400, "VALIDATION_ERROR"),
    ({}, 400, "VALIDATION_ERROR"),
]


@pytest.mark.usefixtures("people")
async def test_merge_that_cannot_be_done_says_why(post: Post) -> None:
    for order, status, code in IMPOSSIBLE:
        answer = await post("/merge", order)
        assert (answer.status, answer.code) == (status, code), order


@pytest.mark.usefixtures("people")
async def test_legal_hold_is_placed_listed_and_released(gateway: Api, admin: dict[str, str], post: Post) -> None:
    answer = await post("/4/hold", {"reason": "case 7"})
    assert (answer.status, answer.json["data"]["reason"]) == (201, "case 7")
    listed = (await gateway.get(f"{PATH}/holds", admin)).json
    assert [(each["userId"], each["reason"]) for each in listed["data"]] == [(4, "case 7")]
    assert (await post("/99/hold", {"reason": "case 7"})).status == 404
    assert (await post("/4/hold", {"reason": "two\nlines"})).code == "VALIDATION_ERROR"
    assert len((await post("/4/release", {"reason": "closed"})).json["data"]) == 1
    assert len((await post("/4/release", {"reason": "closed"})).json["data"]) == 1  # its answer may have been lost
    again = await post("/4/release", {"reason": "closed again"})
    assert (again.status, again.code) == (409, "INVALID_STATUS_TRANSITION")
