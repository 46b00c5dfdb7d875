"""`decide` for performers: the provider's order, field by field."""

from itertools import permutations

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, STALE, Status
from safevideo_common.domain.performers import Performer, PerformerPatch, decide

NEW = Performer("sg_1")


def patch(version: int | None, at: int = 0, **fields: object) -> PerformerPatch:
    return PerformerPatch(fields, WriteVersion(version, at))


def fold(*patches: PerformerPatch) -> Performer:
    performer = NEW
    for each in patches:
        performer, _ = decide(performer, each)
    return performer


def test_two_patches_of_different_fields_end_in_the_same_row_in_either_order() -> None:
    first, second = patch(1, bio="a"), patch(2, username="b")
    assert fold(first, second) == fold(second, first)


def test_the_higher_version_wins_a_field_whatever_the_times_say() -> None:
    assert fold(patch(2, at=1, bio="new"), patch(1, at=9, bio="old")).fields["bio"] == "new"


def test_without_versions_the_later_time_wins() -> None:
    assert fold(patch(None, at=9, bio="new"), patch(None, at=1, bio="old")).fields["bio"] == "new"


def test_where_only_one_has_a_version_the_times_decide() -> None:
    assert fold(patch(7, at=1, bio="old"), patch(None, at=2, bio="new")).fields["bio"] == "new"


def test_a_tie_is_broken_by_arrival() -> None:
    assert fold(patch(1, bio="first"), patch(1, bio="second")).fields["bio"] == "second"


def test_a_patch_that_newer_writes_overtook_in_every_field_is_stale() -> None:
    performer = fold(patch(5, bio="x"))
    assert decide(performer, patch(4, bio="y")) == (performer, STALE)


def test_a_patch_that_still_owns_one_field_is_applied_to_that_field_alone() -> None:
    performer, outcome = decide(fold(patch(5, bio="x")), patch(4, bio="y", username="u"))
    assert outcome is APPLIED
    assert (performer.fields["bio"], performer.fields["username"]) == ("x", "u")


def test_status_keeps_an_order_of_its_own() -> None:
    performer = fold(patch(9, bio="x"), patch(2, status="active"))
    assert performer.fields["status"] == "active"


def test_a_patch_without_fields_is_applied_and_changes_nothing() -> None:
    assert decide(NEW, patch(1)) == (NEW, APPLIED)


def test_applying_the_same_patch_twice_changes_nothing_more() -> None:
    once = fold(patch(3, bio="x", status="active"))
    assert decide(once, patch(3, bio="x", status="active")) == (once, APPLIED)


def test_every_order_of_four_patches_ends_in_the_same_row() -> None:
    patches = (patch(1, bio="a", email="e"), patch(2, bio="b"), patch(3, email="f"), patch(4, bio="c", verified=True))
    assert len({repr(sorted(fold(*order).fields.items())) for order in permutations(patches)}) == 1


def test_an_outcome_is_a_word_of_the_inbox() -> None:
    assert [status.value for status in Status] == ["applied", "stale", "waiting", "dead", "ignored"]
