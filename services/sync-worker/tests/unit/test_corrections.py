"""What a forced replay tells, and what a dry run says would change."""

import msgspec

from safevideo_common.clock import utc_now
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import DEFAULTS, Performer, PerformerPatch
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.replay.policies import with_job_id
from sync_worker.performers.handler import PerformerHandler, PerformerStates
from sync_worker.performers.parsing import PerformerEvent


class NoDrops:
    async def invalidate(self, performer_ids: object) -> None:
        raise AssertionError("nothing is committed here")


HANDLER = PerformerHandler(utc_now, NoDrops())
STORED = Performer(
    "sg_1",
    {**DEFAULTS, "username": "damaged", "bio": "b"},
    {"username": WriteVersion(3, 0, 3), "bio": WriteVersion(4, 0, 4)},
)


def event(version: int, event_id: str = "evt", **fields: object) -> PerformerEvent:
    cause = Envelope(event_id, "performer.profile.updated", utc_now(), "sg_1")
    return PerformerEvent("sg_1", PerformerPatch(fields, WriteVersion(version, 0, version)), cause)


def decided(*events: PerformerEvent, stored: Performer | None = STORED) -> PerformerStates:
    held = {} if stored is None else {"sg_1": LockedPerformer(7, stored)}
    states = PerformerStates(held, {name: row.performer for name, row in held.items()})
    for each in events:
        HANDLER.decide(states, each)
    return states


def test_only_values_that_are_others_now_are_corrections() -> None:
    states = decided(event(1, username="old", bio="old"), event(3, username="good"), event(4, bio="b"))
    assert [msgspec.json.decode(each.value)["changes"] for each in HANDLER.corrections(states)] == [
        {"username": "good"}
    ]
    assert len(HANDLER.changes(states)) == 2


def test_differences_are_from_what_is_stored_to_what_is_left_in_the_end() -> None:
    states = decided(event(3, username="good"), event(5, username="better", display_name="D"), event(6, bio="b"))
    assert HANDLER.diff(states) == {"sg_1": {"username": ("damaged", "better"), "displayName": (None, "D")}}


def test_a_performer_that_ends_as_it_was_has_none() -> None:
    assert HANDLER.diff(decided(event(5, username="x"), event(6, username="damaged"))) == {}


def test_a_new_performer_differs_from_nothing() -> None:
    states = decided(event(1, username="u", verified=False), stored=None)
    assert HANDLER.diff(states) == {"sg_1": {"username": (None, "u")}}


def test_a_correction_has_an_id_of_its_own_for_each_job_however_long_that_of_its_cause() -> None:
    ids = {
        parse_headers(message.headers).id
        for event_id in ("evt", "x" * 128, "x" * 127 + "y")
        for job_id in (7, 8)
        for message in with_job_id(HANDLER.corrections(decided(event(3, event_id, username="good"))), job_id)
    }
    assert len(ids) == 6
    assert "evt#replay-7" in ids
