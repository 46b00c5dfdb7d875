"""`GET /api/v1/performers` and `/pending-approval`: filters, order, and pages by number and by cursor."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth.api_keys import Role
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.performers import PerformerFilter, SortColumn
from safevideo_common.database.tables import performers as performers_table
from safevideo_testkit.http import Api

ON_BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
PATH = "/api/v1/performers"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Store = Callable[..., Awaitable[int]]


async def names(api: Api, query: str, headers: dict[str, str]) -> list[str]:
    answer = await api.get(f"{PATH}?{query}", headers)
    assert answer.status == 200, answer
    return [each["performerId"] for each in answer.json["data"]]


@ON_BOTH
async def test_list_has_filters_and_both_orders(
    gateway: Api, user: dict[str, str], store: Store, database: Database
) -> None:
    for number, status in enumerate(["active", "pending", "under_review", "active", "rejected"]):
        await store(f"sg_{number}", status=status, verified=number == 3, username=f"name-{number}")
    async with database.transaction() as tx:
        gone = performers_table.c.sharegram_id == "sg_4"
        await tx.execute(update(performers_table).where(gone).values(deleted_at=performers_table.c.created_at))
    assert await names(gateway, "", user) == ["sg_3", "sg_2", "sg_1", "sg_0"]
    assert await names(gateway, "order=asc&sort=updatedAt&includeDeleted=true", user) == [
        *("sg_0", "sg_1", "sg_2", "sg_3", "sg_4")
    ]
    assert await names(gateway, "status=active", user) == ["sg_3", "sg_0"]
    assert await names(gateway, "status=pending,active&order=asc", user) == ["sg_0", "sg_1", "sg_3"]
    assert await names(gateway, "verified=true", user) == ["sg_3"]
    assert await names(gateway, "username=name-1", user) == ["sg_1"]
    assert await names(gateway, "updatedSince=2026-11-24T12:00:01Z", user) == []
    for wrong in ("status=none", "verified=yes", "sort=username", "cursor=x%20", "cursor=AAAA", "limit=0"):
        answer = await gateway.get(f"{PATH}?{wrong}", user)
        assert (answer.code, list(answer.json["error"]["details"])) == ("VALIDATION_ERROR", [wrong.partition("=")[0]])


@ON_BOTH
async def test_pages_behind_cursors_have_each_performer_once_while_others_are_created(
    gateway: Api, user: dict[str, str], store: Store
) -> None:
    stored = [f"sg_{number}" for number in range(7)]
    for name in stored:  # all at one time: the pages end within ties
        await store(name, status="active" if name < "sg_4" else "pending")
    for query in ("limit=3&order=asc", "limit=3&order=asc&status=active,pending"):
        found: list[str] = []
        cursor = ""
        while True:
            answer = (await gateway.get(f"{PATH}?{query}{cursor}", user)).json
            found += [each["performerId"] for each in answer["data"]]
            assert answer["pagination"]["hasPreviousPage"] is bool(cursor)
            assert ("totalItems" in answer["pagination"]) is not bool(cursor)
            if (following := answer["pagination"]["nextCursor"]) is None:
                break
            cursor = f"&cursor={following}"
            assert answer["pagination"]["hasNextPage"] is True
        assert found == stored
        by_number = [await names(gateway, f"{query}&page={page}", user) for page in (1, 2, 3, 4)]
        assert [name for page in by_number for name in page] == stored
    other = await gateway.get(f"{PATH}?limit=3&order=desc{cursor}", user)
    assert other.code == "VALIDATION_ERROR"


async def test_list_shows_email_and_decision_to_moderators_only(
    gateway: Api, key: Callable[[Role], Awaitable[dict[str, str]]], store: Store
) -> None:
    await store("sg_1")
    for role, sees in ((Role.USER, False), (Role.AUDITOR, False), (Role.MODERATOR, True)):
        [shown] = (await gateway.get(PATH, await key(role))).json["data"]
        assert ("email" in shown, "decision" in shown) == (sees, sees)
        assert shown["sharegramStatus"] == "pending"


@ON_BOTH
async def test_pending_approval_has_the_oldest_first(gateway: Api, admin: dict[str, str], store: Store) -> None:
    for number, status in enumerate(["under_review", "active", "pending", "suspended"]):
        await store(f"sg_{number}", status=status)
    answer = (await gateway.get(f"{PATH}/pending-approval?limit=1", admin)).json
    assert [each["performerId"] for each in answer["data"]] == ["sg_0"]
    assert (answer["pagination"]["totalItems"], answer["pagination"]["totalPages"]) == (2, 2)
    following = answer["pagination"]["nextCursor"]
    answer = (await gateway.get(f"{PATH}/pending-approval?limit=1&cursor={following}", admin)).json
    assert [each["performerId"] for each in answer["data"]] == ["sg_2"]


@pytest.mark.mysql
@pytest.mark.parametrize("database_kind", ["mysql"], indirect=True)
async def test_page_reads_few_rows_at_every_depth(database: Database) -> None:
    statuses = ("pending", "under_review", "active", "rejected")
    rows = [
        {
            "sharegram_id": f"sg_{number}",
            "verified": True,
            "status": statuses[number % 4],
            "field_versions": {},
            "created_at": NOW + timedelta(seconds=number),
            "updated_at": NOW + timedelta(seconds=number),
        }
        for number in range(2_000)
    ]
    async with database.transaction() as tx:
        await tx.execute(insert(performers_table), rows)
    async with database.read_connection() as connection:
        await connection.execute(text("ANALYZE TABLE performers"))
        lists: Sequence[tuple[PerformerFilter, SortColumn]] = (
            (PerformerFilter(), "created_at"),
            (PerformerFilter(), "updated_at"),
            (PerformerFilter(("pending",)), "created_at"),
            (PerformerFilter(("pending", "under_review")), "created_at"),
        )
        for matching, sort in lists:
            before = await rows_read(connection)
            found = await performers.find(
                connection,
                matching,
                sort=sort,
                order="asc",
                limit=20,
                after=(NOW + timedelta(seconds=1_000), 1_000),
            )
            assert len(found) == 20
            assert await rows_read(connection) - before < 200, (matching, sort)


async def rows_read(connection: AsyncConnection) -> int:
    """The rows that the server has read for this connection."""
    counts = await connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
    return sum(int(count) for name, count in counts if "tmp" not in name.lower())
