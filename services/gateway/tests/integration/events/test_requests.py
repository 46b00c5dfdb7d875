"""Requests to the event browser that make no sense: each wrong thing is named."""

import pytest

from safevideo_common.domain.outcomes import Status
from safevideo_testkit.http import Api

EVENTS = "/api/v1/admin/events"


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("page=0", {"page"}),
        ("page=-1", {"page"}),
        ("page=x", {"page"}),
        ("page=1.0", {"page"}),
        ("page=%D9%A1", {"page"}),
        ("page=99999999999999999999", {"page"}),
        ("limit=0", {"limit"}),
        ("limit=101", {"limit"}),
        ("limit=", {"limit"}),
        ("limit=5&limit=6", {"limit"}),
        ("limit=0&limit=x", {"limit"}),
        ("order=down", {"order"}),
        ("sort=payload", {"sort"}),
        ("status=lost", {"status"}),
        ("from=yesterday", {"from"}),
        ("from=2026-11-24", {"from"}),
        ("from=2026-11-24T12:00:00", {"from"}),
        ("from=2026-02-30T12:00:00Z", {"from"}),
        ("from=0001-01-01T00:00:00Z", {"from"}),
        ("to=9999-12-31T23:59:59-23:59", {"to"}),
        ("to=1764000000", {"to"}),
        ("type=%00", {"type"}),
        ("performer=%00", {"performer"}),
        (f"performer={'a' * 5_000}", {"performer"}),
        ("unknown=1", {"unknown"}),
        ("%FF=1", {"\ufffd"}),
        ("page=0&limit=0&sort=x&status=y&from=z", {"page", "limit", "sort", "status", "from"}),
    ],
)
async def test_list_names_each_wrong_parameter(
    gateway: Api, admin: dict[str, str], query: str, fields: set[str]
) -> None:
    answer = await gateway.get(f"{EVENTS}?{query}", admin)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == fields


async def test_wrong_status_error_lists_the_valid_ones(gateway: Api, admin: dict[str, str]) -> None:
    reason = (await gateway.get(f"{EVENTS}?status=lost", admin)).json["error"]["details"]["status"]
    assert all(repr(str(status)) in reason for status in [*Status, "duplicate"])


@pytest.mark.parametrize("garbage", ["%00", "evt%00", "evt%201", "a" * 129, "a" * 5_000, "%C3%A9"])
async def test_invalid_event_id_is_a_validation_error(gateway: Api, admin: dict[str, str], garbage: str) -> None:
    answer = await gateway.get(f"{EVENTS}/{garbage}", admin)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {"id"}
