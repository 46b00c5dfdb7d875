"""The parser of performer events."""

from datetime import UTC, datetime

import orjson
import pytest

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import IGNORED, Outcome, Status
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.handler import Delivery
from sync_worker.performers.handler import PerformerEvent, parse_performer

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def delivery(data: object, event_type: str = "performer.profile.updated") -> Delivery:
    body = orjson.dumps({"event": event_type, "timestamp": "2026-11-24T12:00:00Z", "data": data})
    return Delivery(Envelope("evt", event_type, AT, "sg_1"), body, "sharegram.performer.v1", 0, 0, AT)


def parsed(data: object) -> PerformerEvent:
    event = parse_performer(delivery(data))
    assert isinstance(event, PerformerEvent)
    return event


def test_patch_has_only_named_fields() -> None:
    event = parsed({"performerId": "sg_1", "changes": {"displayName": "A", "bio": None}})
    assert event.sharegram_id == "sg_1"
    assert event.patch.fields == {"display_name": "A", "bio": None}


def test_changes_override_the_profile() -> None:
    event = parsed({"performerId": "sg_1", "profile": {"username": "a", "bio": "b"}, "changes": {"username": "c"}})
    assert event.patch.fields == {"username": "c", "bio": "b"}


def test_status_is_a_field_of_the_patch() -> None:
    assert parsed({"performerId": "sg_1", "status": "active"}).patch.fields == {"status": "active"}


def test_write_version_has_version_and_time() -> None:
    event = parsed({"performerId": "sg_1", "version": 7, "changes": {"username": "a"}})
    assert event.patch.write_version == WriteVersion(7, int(AT.timestamp()) * 1_000_000)


def test_unknown_fields_are_ignored() -> None:
    assert parsed({"performerId": "sg_1", "changes": {"username": "a", "shoeSize": 44}}).patch.fields == {
        "username": "a"
    }


def test_parse_ignores_an_unknown_type() -> None:
    assert parse_performer(delivery({}, "performer.moon.landed")) is IGNORED


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"performerId": 7},
        {"performerId": "sg_1", "changes": {"verified": "yes"}},
        {"performerId": "sg_1", "changes": {"username": "x" * 256}},
        {"performerId": "sg_1", "status": "on the moon"},
        {"performerId": "sg_1", "version": -1},
        {"performerId": "sg_1", "version": 2**63},
        {"performerId": "sg_1", "changes": {"verified": None}},
    ],
)
def test_parse_rejects_an_invalid_body(data: object) -> None:
    outcome = parse_performer(delivery(data))
    assert isinstance(outcome, Outcome)
    assert outcome.status is Status.DEAD
    assert outcome.code == "BODY_INVALID"


def test_dead_reason_has_no_value() -> None:
    outcome = parse_performer(delivery({"performerId": "sg_1", "status": "secret-word"}))
    assert isinstance(outcome, Outcome)
    assert outcome.reason is not None
    assert "data.status" in outcome.reason
    assert "secret-word" not in outcome.reason
