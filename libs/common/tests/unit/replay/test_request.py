"""The request of a replay: validation and the document of the job row."""

from datetime import UTC, datetime, timedelta

import pytest

from safevideo_common.events.envelope import Envelope
from safevideo_common.replay.request import ReplayParameters, milliseconds, parse_parameters

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLAIN = {"topic": "sharegram.kyc.v1", "target": "kyc-worker"}


def test_parse_parameters_reverses_document() -> None:
    request = ReplayParameters(
        "sharegram.performer.v1", "sync-worker", AT, AT + timedelta(hours=1), ("a",), ("sg_1",), False, True, 5
    )
    assert parse_parameters(request.document()) == request
    assert parse_parameters(PLAIN) == ReplayParameters("sharegram.kyc.v1", "kyc-worker")


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"topic": 1, "target": "kyc-worker"}, PLAIN | {"target": "sync-worker"}, PLAIN | {"from": "yesterday"},
        PLAIN | {"from": "2026-11-24T12:00:00"}, PLAIN | {"colour": "red"}, PLAIN | {"eventsPerSecond": 0},
        PLAIN | {"types": "kyc"}, PLAIN | {"from": "2026-11-24T12:00:00Z", "to": "2026-11-24T12:00:00Z"},
    ],
)  # fmt: skip
def test_parse_parameters_rejects_invalid_fields_without_their_values(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_parameters(wrong)
    assert "yesterday" not in str(refused.value)


def test_event_matches_if_it_passes_all_filters() -> None:
    request = ReplayParameters("sharegram.kyc.v1", "kyc-worker", types=("a", "b"), performer_ids=("sg_1",))
    events = [(kind, subject) for kind in "abc" for subject in ("sg_1", "sg_2", None)]
    assert [each for each in events if request.matches(Envelope("id", each[0], AT, each[1]))] == [
        ("a", "sg_1"), ("b", "sg_1")
    ]  # fmt: skip


def test_milliseconds_rounds_up() -> None:
    assert milliseconds(AT) == int(AT.timestamp()) * 1000
    assert milliseconds(AT + timedelta(microseconds=1)) == milliseconds(AT) + 1
