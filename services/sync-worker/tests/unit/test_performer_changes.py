"""The change events of sync-worker: what they say is what the events have won."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import msgspec

from safevideo_common.broker.types import Message
from safevideo_common.domain.outcomes import APPLIED, STALE, Outcome
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.inbox.handler import Delivery
from sync_worker.performers.handler import PerformerHandler, PerformerStates

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
TYPE = "performer.profile.updated"


class NoDrops:
    async def invalidate(self, performer_ids: Collection[int]) -> None:
        """Nothing is cached."""


class Told:
    """A batch of performer events, decided in memory."""

    def __init__(self) -> None:
        self.handler = PerformerHandler(lambda: AT, NoDrops())
        self.states = PerformerStates({}, {})

    def decide(self, changes: dict[str, object], seconds: int, **data: object) -> Outcome:
        """An event of the performer `sg_1` that happened so many seconds after `AT`."""
        envelope = Envelope(f"evt-{seconds}", TYPE, AT + timedelta(seconds=seconds), "sg_1", "req-1", "00-trace")
        body = msgspec.json.encode({"data": {"performerId": "sg_1", "changes": changes, **data}})
        event = self.handler.parse(Delivery(envelope, body, "sharegram.performer.v1", 0, 0, AT))
        assert not isinstance(event, Outcome)
        return self.handler.decide(self.states, event)

    def messages(self) -> list[Message]:
        return list(self.handler.changes(self.states))

    def bodies(self) -> list[dict[str, object]]:
        return [msgspec.json.decode(each.value) for each in self.messages()]


def test_a_change_has_the_new_values_by_their_names_on_the_wire() -> None:
    told = Told()
    told.decide({"displayName": "Näme 🎬", "bio": None, "verified": True}, 1, version=7, status="active")
    assert told.bodies() == [
        {
            "performerId": "sg_1",
            "changes": {"displayName": "Näme 🎬", "bio": None, "verified": True, "status": "active"},
            "version": 7,
            "at": "2026-11-24T12:00:01Z",
            "causedBy": TYPE,
        }
    ]


def test_its_envelope_names_its_cause_and_its_teller() -> None:
    told = Told()
    told.decide({"bio": "x"}, 1)
    (message,) = told.messages()
    assert (message.topic, message.key) == ("integration.events.v1", b"sg_1")
    assert parse_headers(message.headers) == Envelope(
        "evt-1", "integration.performer.changed", AT + timedelta(seconds=1), "sg_1", "req-1", "00-trace",
        "/safevideo/sync-worker",
    )  # fmt: skip


def test_only_the_fields_that_an_event_has_won_are_told() -> None:
    told = Told()
    assert told.decide({"bio": "new"}, 5) == APPLIED
    assert told.decide({"bio": "old", "username": "u"}, 3) == APPLIED
    assert told.decide({"bio": "older"}, 2) == STALE
    assert [each["changes"] for each in told.bodies()] == [{"bio": "new"}, {"username": "u"}]


def test_a_tie_is_won_by_the_later_arrival_and_both_are_told() -> None:
    told = Told()
    told.decide({"bio": "first"}, 5)
    told.decide({"bio": "second"}, 5)
    assert [each["changes"] for each in told.bodies()] == [{"bio": "first"}, {"bio": "second"}]


def test_an_event_that_names_no_field_is_applied_and_told_without_changes() -> None:
    told = Told()
    assert told.decide({}, 1) == APPLIED
    assert [each["changes"] for each in told.bodies()] == [{}]
