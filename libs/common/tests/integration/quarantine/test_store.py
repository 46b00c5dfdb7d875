"""The quarantine's rows, on both engines."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import rejected_webhooks as table
from safevideo_common.quarantine import queries as quarantine_queries
from safevideo_common.quarantine import store as quarantine_store
from safevideo_common.quarantine.limits import QuarantineUsage, RetentionLimits, TrimResult, trim_to
from safevideo_common.quarantine.queries import RejectedFilter, RejectedRecord
from safevideo_common.quarantine.store import Candidate, Rejection, ReleasedWebhook, RepeatCount

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HEADERS = {"X-Sharegram-Signature": ["sha256=00"], "webhook-id": ["a", "b"]}


def rejection(name: str, seconds: int = 0, *, remote: str = "192.0.2.1", size: int = 10, **other: object) -> Rejection:
    at = NOW + seconds * SECOND
    plain = Rejection(
        name, at, at, 1, "signature_mismatch", "WEBHOOK_SIGNATURE_INVALID", "sharegram", HEADERS,
        b"encrypted " + name.encode(), "5a" * 32, size, remote, f"request-{name}",
    )  # fmt: skip
    return plain._replace(**other)  # type: ignore[arg-type]  # a test names what it wants


async def kept(database: Database, *rejections: Rejection) -> None:
    async with database.transaction() as tx:
        await quarantine_store.add(tx, rejections)


async def trimmed(database: Database, bounds: RetentionLimits, now: datetime = NOW) -> TrimResult:
    async with database.transaction() as tx:
        return await trim_to(tx, bounds, now)


async def names(database: Database) -> Sequence[str]:
    async with database.read_connection() as reading:
        return list(await reading.scalars(select(table.c.fingerprint).order_by(table.c.received_at, table.c.id)))


async def shown(database: Database, wanted: RejectedFilter, **page: int) -> list[str]:
    async with database.read_connection() as reading:
        found, _ = await quarantine_queries.find(reading, wanted, **{"page": 1, "limit": 100, **page}, order="asc")
    return [(each.request_id or "").removeprefix("request-") for each in found]


async def id_of(database: Database, name: str) -> int:
    async with database.read_connection() as reading:
        number: int = (await reading.scalars(select(table.c.id).where(table.c.fingerprint == name))).one()
    return number


async def release(database: Database, name: str, event_id: str, at: datetime = NOW) -> None:
    number = await id_of(database, name)
    async with database.transaction() as tx:
        await quarantine_store.mark_released(tx, [ReleasedWebhook(number, event_id)], at)


async def test_queries_return_all_columns_except_the_body(database: Database) -> None:
    await kept(database, rejection("a"))
    number = await id_of(database, "a")
    async with database.read_connection() as reading:
        record = await quarantine_queries.get(reading, number)
        assert await quarantine_queries.get(reading, number + 1) is None
    assert record == RejectedRecord(
        number, NOW, NOW, 1, "signature_mismatch", "WEBHOOK_SIGNATURE_INVALID", "sharegram", HEADERS, "5a" * 32, 10,
        "192.0.2.1", "request-a", None, None,
    )  # fmt: skip


async def test_store_accepts_the_largest_body(database: Database) -> None:
    body = b"x" * 1_400_000  # a MiB, encrypted
    await kept(database, rejection("a", body=body))
    async with database.read_connection() as reading:
        (found,) = await quarantine_store.load(reading, [await id_of(database, "a")])
    assert found.body == body
    assert (found.received_at, found.headers, found.request_id) == (NOW, HEADERS, "request-a")


async def test_repeated_webhook_is_counted_and_not_stored_again(database: Database) -> None:
    await kept(database, rejection("a"))
    again = rejection("a", 5, body=b"something else", times_seen=2)
    await kept(database, again)  # as two processes would that see it at once
    async with database.read_connection() as reading:
        assert await quarantine_store.existing_fingerprints(reading, ["a", "b"]) == {"a"}
    async with database.transaction() as tx:
        await quarantine_store.count_repeats(tx, [RepeatCount("a", 4, NOW + 9 * SECOND), RepeatCount("gone", 1, NOW)])
        await quarantine_store.count_repeats(tx, [])
    async with database.read_connection() as reading:
        number = await id_of(database, "a")
        record = await quarantine_queries.get(reading, number)
        (found,) = await quarantine_store.load(reading, [number])
    assert record is not None
    assert (record.times_seen, record.received_at, record.last_seen_at) == (7, NOW, NOW + 9 * SECOND)
    assert found.body == b"encrypted a"


async def test_unreleased_webhooks_are_in_order_of_reception(database: Database) -> None:
    await kept(database, rejection("late", 9), rejection("early"), rejection("middle", 5, size=7))
    numbers = {name: await id_of(database, name) for name in ("early", "middle", "late")}
    async with database.read_connection() as reading:
        assert [each.row_id for each in await quarantine_store.unreleased(reading)] == list(numbers.values())
        wanted = {numbers["middle"], numbers["early"] + 1000}
        assert await quarantine_store.unreleased(reading, wanted) == [Candidate(numbers["middle"], 7)]
        loaded = await quarantine_store.load(reading, [numbers["late"], numbers["early"]])
    assert [each.row_id for each in loaded] == [numbers["early"], numbers["late"]]


async def test_mark_released_keeps_an_earlier_release(database: Database) -> None:
    await kept(database, rejection("a"), rejection("b"))
    await release(database, "a", "evt-1")
    await release(database, "a", "evt-2", NOW + SECOND)
    number = await id_of(database, "a")
    async with database.read_connection() as reading:
        record = await quarantine_queries.get(reading, number)
        assert await quarantine_store.load(reading, [number]) == []
        assert [each.row_id for each in await quarantine_store.unreleased(reading)] == [await id_of(database, "b")]
    assert record is not None
    assert (record.released_at, record.released_event_id) == (NOW, "evt-1")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RejectedFilter(), ["a", "b", "c"]),
        (RejectedFilter(reason="signature_malformed"), ["b"]),
        (RejectedFilter(released=True), ["c"]),
        (RejectedFilter(released=False), ["a", "b"]),
        (RejectedFilter(received_from=NOW + SECOND), ["b", "c"]),
        (RejectedFilter(received_to=NOW + SECOND), ["a"]),
        (RejectedFilter(reason="signature_malformed", released=True), []),
    ],
)
async def test_find_combines_all_filters(database: Database, wanted: RejectedFilter, found: list[str]) -> None:
    await kept(database, rejection("a"), rejection("b", 1, reason="signature_malformed"), rejection("c", 2))
    await release(database, "c", "evt-1")
    assert await shown(database, wanted) == found


async def test_pages_have_no_gap_and_no_overlap(database: Database) -> None:
    await kept(database, *(rejection(name) for name in "abcde"))
    pages = [await shown(database, RejectedFilter(), page=page, limit=2) for page in (1, 2, 3, 4)]
    assert pages == [["a", "b"], ["c", "d"], ["e"], []]


async def test_trim_deletes_expired_webhooks(database: Database) -> None:
    await kept(database, rejection("old"), rejection("new", 1))
    assert await trimmed(database, RetentionLimits(age=timedelta(days=1)), NOW + timedelta(days=1)) == TrimResult(
        QuarantineUsage(2, 20), 0, 0
    )
    a_second_on = NOW + timedelta(days=1, seconds=1)
    assert await trimmed(database, RetentionLimits(age=timedelta(days=1)), a_second_on) == TrimResult(
        QuarantineUsage(1, 10), 1, 0
    )
    assert await names(database) == ["new"]


async def test_trim_accepts_an_empty_quarantine(database: Database) -> None:
    assert await trimmed(database, RetentionLimits(rows=1, bytes=1)) == TrimResult(QuarantineUsage(0, 0), 0, 0)


async def test_trim_evicts_the_oldest_of_the_address_with_most_rows(database: Database) -> None:
    flood = [rejection(f"flood-{number}", number, remote="203.0.113.1") for number in range(20)]
    await kept(database, rejection("honest", -60), *flood)
    result = await trimmed(database, RetentionLimits(rows=5))
    assert result == TrimResult(QuarantineUsage(5, 50), 0, 16)
    assert await names(database) == ["honest", "flood-16", "flood-17", "flood-18", "flood-19"]


async def test_trim_evicts_the_oldest_of_the_address_with_most_bytes(database: Database) -> None:
    large = [rejection(f"large-{number}", number, remote="203.0.113.1", size=1000) for number in range(4)]
    small = [rejection(f"small-{number}", number - 60, size=1) for number in range(6)]
    await kept(database, *small, *large)
    result = await trimmed(database, RetentionLimits(bytes=2500))
    assert result == TrimResult(QuarantineUsage(8, 2006), 0, 2)
    assert (await names(database))[-2:] == ["large-2", "large-3"]


async def test_trim_evicts_released_webhooks_first(database: Database) -> None:
    await kept(database, rejection("a"), rejection("b", 1), rejection("done", 2, remote="203.0.113.1"))
    await release(database, "done", "evt-1")
    assert (await trimmed(database, RetentionLimits(rows=2))).evicted == 1
    assert await names(database) == ["a", "b"]


async def test_trim_evicts_the_oldest_of_many_equal_addresses(database: Database) -> None:
    await kept(database, *(rejection(f"{number:03}", number, remote=f"192.0.2.{number}") for number in range(200)))
    assert (await trimmed(database, RetentionLimits(rows=20))).usage == QuarantineUsage(19, 190)
    assert await names(database) == [f"{number:03}" for number in range(181, 200)]


async def test_trim_starts_at_the_limit_and_evicts_a_twentieth_more(database: Database) -> None:
    await kept(database, *(rejection(str(number), number) for number in range(40)))
    assert (await trimmed(database, RetentionLimits(rows=40))).evicted == 0
    await kept(database, rejection("one more", 40))
    assert (await trimmed(database, RetentionLimits(rows=40))).usage.rows == 38


async def test_trim_reaches_much_lower_limits_in_one_call(database: Database) -> None:
    await kept(database, *(rejection(str(number), number) for number in range(1200)))
    assert (await trimmed(database, RetentionLimits(rows=3))).usage.rows == 3
    async with database.read_connection() as reading:
        assert await reading.scalar(select(func.count()).select_from(table)) == 3
