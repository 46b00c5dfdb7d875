"""`GET /api/v1/admin/events` and `/{id}`, on every kind of database."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import FieldOutcome, Status
from safevideo_testkit.http import Api

ON_BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
Record = Callable[..., Awaitable[None]]
EVENTS = "/api/v1/admin/events"


async def ids(api: Api, query: str, headers: dict[str, str]) -> list[str]:
    answer = await api.get(f"{EVENTS}?{query}", headers)
    assert answer.status == 200, answer
    return [event["eventId"] for event in answer.json["data"]]


@ON_BOTH
async def test_event_is_shown_with_its_outcome_and_without_its_payload(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    retry_at = datetime(2026, 11, 24, 13, tzinfo=UTC)
    await record(
        "evt-1", status=Status.WAITING, reason="KYC_UNKNOWN: not yet", tries=2, next_try_at=retry_at,
        request_id="request-1", body_sha256="ab" * 32, payload=b'{"email": "jane@example.com"}',
    )  # fmt: skip
    answer = await gateway.get(f"{EVENTS}/evt-1", admin)
    assert answer.status == 200
    assert answer.json["data"] == {
        "id": 1,
        "eventId": "evt-1",
        "type": "performer.profile.updated",
        "performerId": "sg_1",
        "status": "waiting",
        "reason": "KYC_UNKNOWN: not yet",
        "tries": 2,
        "nextTryAt": "2026-11-24T13:00:00.000Z",
        "duplicates": 0,
        "occurredAt": "2026-11-24T12:00:00.000Z",
        "receivedAt": "2026-11-24T12:00:00.000Z",
        "decidedAt": "2026-11-24T12:00:00.000Z",
        "consumerGroup": "sync-worker",
        "topic": "sharegram.performer.v1",
        "partition": 0,
        "offset": 0,
        "requestId": "request-1",
        "bodySha256": "ab" * 32,
        "version": None,
        "won": [],
        "overtaken": [],
        "advice": None,
    }
    listed = await gateway.get(EVENTS, admin)
    assert listed.status == 200, listed
    assert listed.json["data"] == [answer.json["data"]]


@ON_BOTH
async def test_event_names_the_events_that_own_its_lost_fields(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    await record("evt-new", source_offset=7)
    newest = WriteVersion(9, 1_795_521_600_000_000, 7)
    fields = FieldOutcome(8, ("bio",), {"displayName": newest, "username": newest._replace(arrival=3)})
    await record("evt-old", fields=fields)
    shown = (await gateway.get(f"{EVENTS}/evt-old", admin)).json["data"]
    loss = {"version": 9, "occurredAt": "2026-11-24T12:00:00.000Z"}
    assert (shown["version"], shown["won"]) == (8, ["bio"])
    assert shown["overtaken"] == [
        {"field": "displayName", **loss, "eventId": "evt-new"},
        {"field": "username", **loss, "eventId": None},
    ]
    assert (await gateway.get(EVENTS, admin)).json["data"][0]["overtaken"][0] == {"field": "displayName", **loss}


@ON_BOTH
async def test_event_is_found_by_row_id_and_by_event_id(gateway: Api, admin: dict[str, str], record: Record) -> None:
    await record("evt-1")
    await record("evt-2")
    by_event_id = await gateway.get(f"{EVENTS}/evt-2", admin)
    by_row_id = await gateway.get(f"{EVENTS}/{by_event_id.json['data']['id']}", admin)
    assert by_row_id.json == by_event_id.json


async def test_event_id_of_digits_is_found_if_no_row_has_that_id(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    await record("4711")
    assert (await gateway.get(f"{EVENTS}/4711", admin)).json["data"]["eventId"] == "4711"


@ON_BOTH
async def test_event_id_may_have_a_slash(gateway: Api, admin: dict[str, str], record: Record) -> None:
    await record("a/b")
    assert (await gateway.get(f"{EVENTS}/a%2Fb", admin)).json["data"]["eventId"] == "a/b"


@ON_BOTH
async def test_event_list_is_newest_first_and_pages_have_no_gap(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    for number in range(5):
        await record(f"evt-{number}")
    pages = [await gateway.get(f"{EVENTS}?page={page}&limit=2", admin) for page in (1, 2, 3, 4)]
    shown = [[event["eventId"] for event in page.json["data"]] for page in pages]
    assert shown == [["evt-4", "evt-3"], ["evt-2", "evt-1"], ["evt-0"], []]
    assert pages[1].json["pagination"] == {
        "currentPage": 2,
        "itemsPerPage": 2,
        "totalItems": 5,
        "totalPages": 3,
        "hasNextPage": True,
        "hasPreviousPage": True,
    }
    ends = [(page.json["pagination"]["hasPreviousPage"], page.json["pagination"]["hasNextPage"]) for page in pages]
    assert ends == [(False, True), (True, True), (True, False), (True, False)]


@ON_BOTH
async def test_events_of_one_time_keep_their_order_across_pages(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    for number in range(6):
        await record(f"evt-{number}", received_at=moment)
    shown = [await ids(gateway, f"page={page}&limit=2&order=asc", admin) for page in (1, 2, 3)]
    assert list(chain(*shown)) == [f"evt-{number}" for number in range(6)]


@ON_BOTH
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_rows_do_not_move_between_pages_while_events_come(
    gateway: Api, admin: dict[str, str], record: Record, order: str
) -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    for number in range(5):
        await record(f"evt-{number}", received_at=moment + timedelta(seconds=number // 2))
    found: list[str] = []
    last = ""
    while page := (await gateway.get(f"{EVENTS}?limit=2&order={order}{last}", admin)).json["data"]:
        found += [event["eventId"] for event in page]
        last = f"&after={page[-1]['id']}"
        await record(f"new-{len(found)}", received_at=moment + timedelta(hours=len(found) if order == "desc" else -1))
    names = [f"evt-{number}" for number in range(5)]
    assert found == (names if order == "asc" else names[::-1])


@pytest.mark.parametrize("query", ["after=0", "after=99", "after=x", "after=1&page=2"])
async def test_wrong_position_in_a_list_is_named(gateway: Api, admin: dict[str, str], query: str) -> None:
    answer = await gateway.get(f"{EVENTS}?{query}", admin)
    assert (answer.code, list(answer.json["error"]["details"])) == ("VALIDATION_ERROR", ["after"])


@ON_BOTH
async def test_empty_inbox_is_an_empty_page(gateway: Api, admin: dict[str, str]) -> None:
    answer = await gateway.get(EVENTS, admin)
    assert answer.json["data"] == []
    assert answer.json["pagination"]["totalPages"] == 0
    assert answer.json["pagination"]["hasNextPage"] is False


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("type=kyc.verification.failed", ["kyc"]),
        ("performer=sg_2", ["kyc"]),
        ("status=dead", ["dead"]),
        ("status=applied", ["kyc", "plain"]),
        ("status=duplicate", []),
        ("from=2026-11-24T12:01:00Z&to=2026-11-24T12:02:00Z", ["dead"]),
        ("from=2026-11-24T14:01:00%2B02:00", ["kyc", "dead"]),
        ("status=applied&performer=sg_1&type=performer.profile.updated", ["plain"]),
        ("status=applied&performer=sg_3", []),
        ("sort=decidedAt&order=asc", ["plain", "dead", "kyc"]),
        ("sort=occurredAt&order=desc", ["kyc", "dead", "plain"]),
        ("performer=%25", []),
        ("performer='/**/OR/**/1=1--", []),
    ],
)
@ON_BOTH
async def test_list_combines_all_filters(
    gateway: Api, admin: dict[str, str], record: Record, query: str, found: list[str]
) -> None:
    await record("plain")
    await record("dead", status=Status.DEAD)
    await record("kyc", event_type="kyc.verification.failed", performer_id="sg_2")
    assert await ids(gateway, query, admin) == found


@pytest.mark.parametrize("unknown", ["evt-9", "999", "9" * 18, "9" * 40, "%25", "%FF"])
@ON_BOTH
async def test_unknown_event_is_404(gateway: Api, admin: dict[str, str], record: Record, unknown: str) -> None:
    await record("evt-1")
    answer = await gateway.get(f"{EVENTS}/{unknown}", admin)
    assert (answer.status, answer.code) == (404, "NOT_FOUND")


@ON_BOTH
async def test_event_list_takes_several_statuses_and_the_id_of_a_request(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    await record("evt-1", request_id="request-1")
    await record("evt-2", status=Status.STALE)
    await record("evt-3", status=Status.IGNORED)
    assert await ids(gateway, "status=applied,stale&order=asc", admin) == ["evt-1", "evt-2"]
    assert await ids(gateway, "requestId=request-1", admin) == ["evt-1"]


async def test_ignored_event_of_a_type_that_is_known_now_says_what_applies_it(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    ignored = {"status": Status.IGNORED, "source_topic": "sharegram.other.v1"}
    await record("evt-1", event_type="performer.status.changed", **ignored)
    await record("evt-2", event_type="performer.badge.awarded", **ignored)
    known, unknown = [(await gateway.get(f"{EVENTS}/evt-{number}", admin)).json["data"]["advice"] for number in (1, 2)]
    assert "replay --topic sharegram.other.v1 --target sync-worker --type performer.status.changed" in known
    assert unknown is None
