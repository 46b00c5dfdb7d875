"""The change events of sync-worker: the fields that each event has won."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import msgspec

from safevideo_common.broker.types import Message
from safevideo_common.domain.outcomes import APPLIED, Outcome, Status
from safevideo_common.events.change_events import ChangedFields
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.inbox.handler import Delivery
from sync_worker.performers.handler import PerformerHandler, PerformerStates

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
TYPE = "performer.profile.updated"


class NoCache:
    async def invalidate(self, performer_ids: Collection[int]) -> None:
        """Nothing is cached."""


class DecidedBatch:
    """A batch of performer events, decided in memory."""

    def __init__(self) -> None:
        self.handler = PerformerHandler(lambda: AT, NoCache())
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


def test_change_has_the_new_values_by_wire_names() -> None:
    batch = DecidedBatch()
    batch.decide({"displayName": "Näme 🎬", "bio": None, "verified": True}, 1, version=7, status="active")
    assert msgspec.convert(batch.bodies()[0]["changes"], ChangedFields).display_name == "Näme 🎬"
    assert batch.bodies() == [
        {
            "performerId": "sg_1",
            "changes": {"displayName": "Näme 🎬", "bio": None, "verified": True, "status": "active"},
            "sequence": 0,
            "version": 7,
            "at": "2026-11-24T12:00:01Z",
            "causedBy": {"id": "evt-1", "type": TYPE},
        }
    ]


def test_change_envelope_has_the_cause_and_our_source() -> None:
    batch = DecidedBatch()
    batch.decide({"bio": "x"}, 1)
    (message,) = batch.messages()
    assert (message.topic, message.key) == ("integration.events.v1", b"sg_1")
    assert parse_headers(message.headers) == Envelope(
        "evt-1", "integration.performer.changed", AT + timedelta(seconds=1), "sg_1", "req-1", "00-trace",
        "/safevideo/sync-worker",
    )  # fmt: skip


def test_change_has_only_fields_that_the_event_won() -> None:
    batch = DecidedBatch()
    assert batch.decide({"bio": "new"}, 5) == APPLIED
    assert batch.decide({"bio": "old", "username": "u"}, 3) == APPLIED
    assert batch.decide({"bio": "older"}, 2).status is Status.STALE
    assert [each["changes"] for each in batch.bodies()] == [{"bio": "new"}, {"username": "u"}]


def test_later_arrival_wins_a_tie_and_both_are_published() -> None:
    batch = DecidedBatch()
    batch.decide({"bio": "first"}, 5)
    batch.decide({"bio": "second"}, 5)
    assert [each["changes"] for each in batch.bodies()] == [{"bio": "first"}, {"bio": "second"}]


def test_event_without_fields_has_a_change_without_fields() -> None:
    batch = DecidedBatch()
    assert batch.decide({}, 1) == APPLIED
    assert [each["changes"] for each in batch.bodies()] == [{}]
