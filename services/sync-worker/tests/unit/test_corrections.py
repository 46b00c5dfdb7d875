"""The corrections of a forced replay, and the differences of a dry run."""

import msgspec

from safevideo_common.clock import utc_now
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import DEFAULTS, Performer, PerformerPatch
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.replay.policies import with_job_id
from sync_worker.performers.handler import PerformerEvent, PerformerHandler, PerformerStates


class NoCache:
    async def invalidate(self, performer_ids: object) -> None:
        raise AssertionError("nothing is committed here")


HANDLER = PerformerHandler(utc_now, NoCache())
STORED = Performer(
    "sg_1",
    {**DEFAULTS, "username": "damaged", "bio": "b"},
    {"username": WriteVersion(3, 0, 3), "bio": WriteVersion(4, 0, 4)},
)


def event(version: int, event_id: str = "evt", **fields: object) -> PerformerEvent:
    cause = Envelope(event_id, "performer.profile.updated", utc_now(), "sg_1")
    return PerformerEvent("sg_1", PerformerPatch(fields, WriteVersion(version, 0, version)), cause)


def decided(*events: PerformerEvent, stored: Performer | None = STORED) -> PerformerStates:
    rows = {} if stored is None else {"sg_1": LockedPerformer(7, stored)}
    states = PerformerStates(rows, {name: row.performer for name, row in rows.items()})
    for each in events:
        HANDLER.decide(states, each)
    return states


def test_corrections_have_only_changed_values() -> None:
    states = decided(event(1, username="old", bio="old"), event(3, username="good"), event(4, bio="b"))
    assert [msgspec.json.decode(each.value)["changes"] for each in HANDLER.corrections(states)] == [
        {"username": "good"}
    ]
    assert len(HANDLER.changes(states)) == 2


def test_diff_compares_the_stored_and_the_final_values() -> None:
    states = decided(event(3, username="good"), event(5, username="better", display_name="D"), event(6, bio="b"))
    assert HANDLER.diff(states) == {"sg_1": {"username": ("damaged", "better"), "displayName": (None, "D")}}


def test_diff_omits_an_unchanged_performer() -> None:
    assert HANDLER.diff(decided(event(5, username="x"), event(6, username="damaged"))) == {}


def test_diff_compares_a_new_performer_with_the_defaults() -> None:
    states = decided(event(1, username="u", verified=False), stored=None)
    assert HANDLER.diff(states) == {"sg_1": {"username": (None, "u")}}


def test_correction_id_is_unique_per_cause_and_job() -> None:
    ids = {
        parse_headers(message.headers).id
        for event_id in ("evt", "x" * 128, "x" * 127 + "y")
        for job_id in (7, 8)
        for correction in HANDLER.corrections(decided(event(3, event_id, username="good")))
        for message in [with_job_id(correction, job_id)]
    }
    assert len(ids) == 6
    assert "evt#replay-7" in ids
