"""What a replay may be request for, and how it is kept."""

from datetime import UTC, datetime, timedelta

import pytest

from safevideo_common.events.envelope import Envelope
from safevideo_common.replay.request import ReplayParameters, milliseconds, parse_parameters

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLAIN = {"topic": "sharegram.kyc.v1", "target": "kyc-worker"}


def test_what_is_written_to_the_row_is_read_from_it() -> None:
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
def test_what_makes_no_sense_is_refused_without_its_values(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_parameters(wrong)
    assert "yesterday" not in str(refused.value)


def test_all_filters_must_let_an_event_through() -> None:
    request = ReplayParameters("sharegram.kyc.v1", "kyc-worker", types=("a", "b"), performer_ids=("sg_1",))
    wanted = [(kind, subject) for kind in "abc" for subject in ("sg_1", "sg_2", None)]
    assert [each for each in wanted if request.matches(Envelope("id", each[0], AT, each[1]))] == [
        ("a", "sg_1"), ("b", "sg_1")
    ]  # fmt: skip


def test_a_moment_between_two_milliseconds_is_the_later_one() -> None:
    assert milliseconds(AT) == int(AT.timestamp()) * 1000
    assert milliseconds(AT + timedelta(microseconds=1)) == milliseconds(AT) + 1
