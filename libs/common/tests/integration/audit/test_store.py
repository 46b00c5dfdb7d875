"""The audit log, on both engines."""

from datetime import UTC, datetime, timedelta

import pytest

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, AuditFilter
from safevideo_common.database.engine import Database

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)


def entry(minutes: int = 0, actor: str = "ops", action: str = "webhooks.released") -> AuditEntry:
    at = NOW + timedelta(minutes=minutes)
    return AuditEntry(at, actor, "admin", action, "192.0.2.1", "request-1", {"ids": [1, 2], "dryRun": False}, "job:7")


async def found(database: Database, wanted: AuditFilter, page: int = 1, limit: int = 10) -> list[AuditEntry]:
    async with database.read_connection() as reading:
        records, total = await audit_store.find(reading, wanted, page=page, limit=limit, order="asc")
    assert total >= len(records)
    return [record.entry for record in records]


async def test_find_returns_an_entry_as_written(database: Database) -> None:
    async with database.transaction() as tx:
        await audit_store.record(tx, entry())
    assert await found(database, AuditFilter()) == [entry()]


async def test_failed_transaction_discards_its_audit_entry(database: Database) -> None:
    async def act() -> None:
        async with database.transaction() as tx:
            await audit_store.record(tx, entry())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await act()
    assert await found(database, AuditFilter()) == []


@pytest.mark.parametrize(
    ("wanted", "minutes"),
    [
        (AuditFilter(), [0, 1, 2]),
        (AuditFilter(actor="somebody"), [1]),
        (AuditFilter(action="users.merged"), [2]),
        (AuditFilter(target="job:7", request_id="request-1"), [0, 1, 2]),
        (AuditFilter(target="job:8"), []),
        (AuditFilter(request_id="request-2"), []),
        (AuditFilter(at_from=NOW + timedelta(minutes=1)), [1, 2]),
        (AuditFilter(at_to=NOW + timedelta(minutes=1)), [0]),
        (AuditFilter(actor="somebody", action="users.merged"), []),
    ],
)
async def test_find_combines_all_filters(database: Database, wanted: AuditFilter, minutes: list[int]) -> None:
    async with database.transaction() as tx:
        for each in (entry(0), entry(1, actor="somebody"), entry(2, action="users.merged")):
            await audit_store.record(tx, each)
    assert [(each.at - NOW) // timedelta(minutes=1) for each in await found(database, wanted)] == minutes
    assert [len(await found(database, wanted, page, 2)) for page in (1, 2)] == [
        min(2, len(minutes)), max(0, len(minutes) - 2),
    ]  # fmt: skip


async def test_delete_before_deletes_the_oldest_up_to_the_limit(database: Database) -> None:
    async with database.transaction() as tx:
        for minutes in range(4):
            await audit_store.record(tx, entry(minutes))
    deleted = []
    for _ in range(3):
        async with database.transaction() as tx:
            deleted.append(await audit_store.delete_before(tx, NOW + timedelta(minutes=3), 2))
    assert deleted == [2, 1, 0]
    assert [each.at for each in await found(database, AuditFilter())] == [NOW + timedelta(minutes=3)]
