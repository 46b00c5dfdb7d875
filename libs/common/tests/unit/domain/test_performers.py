"""`decide` for performers: the provider's order, field by field."""

from itertools import permutations

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, VERSION_MISSING, FieldOutcome, Status
from safevideo_common.domain.performer_status import StatusDecision
from safevideo_common.domain.performers import (
    Performer,
    PerformerPatch,
    applied_fields,
    decide,
    decide_status,
    end_suspension,
    take_record,
)

NEW = Performer("sg_1")


def patch(version: int | None, at: int = 0, **fields: object) -> PerformerPatch:
    return PerformerPatch(fields, WriteVersion(version, at))


def fold(*patches: PerformerPatch) -> Performer:
    performer = NEW
    for each in patches:
        performer, _ = decide(performer, each)
    return performer


def test_decide_merges_patches_of_different_fields_in_either_order() -> None:
    first, second = patch(1, bio="a"), patch(2, username="b")
    assert fold(first, second) == fold(second, first)


def test_decide_prefers_the_higher_version_to_the_later_time() -> None:
    assert fold(patch(2, at=1, bio="new"), patch(1, at=9, bio="old")).fields["bio"] == "new"


def test_decide_prefers_the_later_time_without_versions() -> None:
    assert fold(patch(None, at=9, bio="new"), patch(None, at=1, bio="old")).fields["bio"] == "new"


def test_decide_prefers_a_version_to_a_later_time_without_one() -> None:
    assert fold(patch(None, at=2, bio="without"), patch(7, at=1, bio="with")).fields["bio"] == "with"
    performer = fold(patch(7, at=1, bio="with"))
    assert decide(performer, patch(None, at=2, bio="without")) == (performer, VERSION_MISSING)


def test_decide_does_not_blame_the_missing_version_for_an_older_time() -> None:
    performer = fold(patch(7, at=1, bio="x"), patch(None, at=9, username="u"))
    after, outcome = decide(performer, patch(None, at=2, bio="y", username="v"))
    assert (after, outcome.status) == (performer, Status.STALE)
    assert outcome.reason == "OVERTAKEN: bio by version 7; username by an event of 1970-01-01T00:00:00Z"


def test_decide_breaks_a_tie_by_arrival() -> None:
    assert fold(patch(1, bio="first"), patch(1, bio="second")).fields["bio"] == "second"


def test_decide_returns_stale_when_newer_writes_own_every_field() -> None:
    performer = fold(patch(5, bio="x", display_name="n"))
    after, outcome = decide(performer, patch(4, bio="y", display_name="m"))
    assert (after, outcome.status) == (performer, Status.STALE)
    assert outcome.reason == "OVERTAKEN: bio, displayName by version 5"
    owner = WriteVersion(5, 0)
    assert outcome.fields == FieldOutcome(4, (), {"bio": owner, "displayName": owner})


def test_decide_applies_a_patch_only_to_the_fields_it_wins() -> None:
    performer, outcome = decide(fold(patch(5, bio="x")), patch(4, bio="y", username="u"))
    assert outcome == APPLIED
    assert outcome.fields == FieldOutcome(4, ("username",), {"bio": WriteVersion(5, 0)})
    assert (performer.fields["bio"], performer.fields["username"]) == ("x", "u")


def test_decide_orders_status_independently_of_other_fields() -> None:
    performer = fold(patch(9, bio="x"), patch(2, status="active"))
    assert performer.fields["status"] == "active"


def test_decide_applies_an_empty_patch_without_a_change() -> None:
    assert decide(NEW, patch(1)) == (NEW, APPLIED)


def test_decide_changes_nothing_when_a_patch_arrives_twice() -> None:
    once = fold(patch(3, bio="x", status="active"))
    assert decide(once, patch(3, bio="x", status="active")) == (once, APPLIED)


def test_decide_gives_the_same_row_for_every_order_of_four_patches() -> None:
    patches = (patch(1, bio="a", email="e"), patch(2, bio="b"), patch(3, email="f"), patch(4, bio="c", verified=True))
    assert len({repr(sorted(fold(*order).fields.items())) for order in permutations(patches)}) == 1


def test_status_values_are_those_of_the_contract() -> None:
    assert [status.value for status in Status] == ["applied", "stale", "waiting", "dead", "ignored"]


def decision(status: str, at: int, until: int | None = None) -> StatusDecision:
    return StatusDecision(status, at, "", None, until)


def test_decision_stands_against_late_and_repeated_statuses_and_ends_with_a_new_one() -> None:
    approved = decide_status(fold(patch(1, at=10, status="pending")), decision("active", 20))
    assert approved.status == "active"
    late, outcome = decide(approved, patch(2, at=15, status="under_review"))
    assert (late.status, late.fields["status"], outcome.status) == ("active", "under_review", Status.APPLIED)
    repeated = take_record(late, patch(3, at=30, status="under_review", bio="b"))
    assert (repeated.status, repeated.fields["bio"]) == ("active", "b")
    newer, _ = decide(repeated, patch(4, at=40, status="rejected"))
    assert newer.status == "rejected"


def test_decision_stands_behind_a_status_whose_clock_is_ahead() -> None:
    approved = decide_status(fold(patch(1, at=1_000, status="pending")), decision("active", 20))
    assert decide(approved, patch(2, at=900, status="rejected"))[0].status == "active"
    assert take_record(approved, patch(2, at=2_000, status="pending")).status == "active"


def test_statuses_around_a_decision_end_alike_in_every_order() -> None:
    approved = decide_status(fold(patch(1, at=10, status="pending")), decision("active", 20))
    statuses = [("under_review", 15), ("rejected", 30), ("under_review", 40), ("pending", 18)]
    for last in range(1, len(statuses) + 1):
        patches = [patch(index + 2, at=at, status=status) for index, (status, at) in enumerate(statuses[:last])]
        found = set()
        for order in permutations(patches):
            performer = approved
            for each in (*order, *order):
                performer, _ = decide(performer, each)
            found.add((performer.status, performer.fields["status"], performer.decision))
        assert len(found) == 1


def test_late_status_that_lost_is_applied_if_it_brings_the_decision_back() -> None:
    approved = decide_status(fold(patch(1, at=10, status="pending")), decision("active", 20))
    newer, _ = decide(approved, patch(3, at=30, status="rejected"))
    late = patch(2, at=15, status="rejected")
    after, outcome = decide(newer, late)
    assert (newer.status, after.status, outcome.status) == ("rejected", "active", Status.APPLIED)
    assert applied_fields(newer, after, late) == {"status": "active"}
    again, outcome = decide(after, late)
    assert (again, outcome.status) == (after, Status.STALE)


def test_end_of_a_suspension_brings_back_the_decision_before_it() -> None:
    approved = decide_status(fold(patch(1, at=10, status="pending")), decision("active", 20))
    suspended = decide_status(approved, decision("suspended", 30, until=50))
    prolonged = decide_status(suspended, decision("suspended", 40, until=60))
    assert end_suspension(prolonged, 59) is prolonged
    assert (prolonged.status, end_suspension(prolonged, 60).status) == ("suspended", "active")
    assert end_suspension(prolonged, 60) == approved
    rejected, _ = decide(prolonged, patch(2, at=55, status="rejected"))
    assert (rejected.status, end_suspension(rejected, 60).status) == ("rejected", "rejected")
