"""How many may die before the worker halts."""

import pytest

from safevideo_common.domain.outcomes import APPLIED, Outcome, dead
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded

ONE, OTHER = "one", "other"
DEAD = dead("BODY_INVALID", "data: not there")


def test_a_few_dead_are_never_too_many() -> None:
    limit = DlqLimit(limit=0.1, window=100, minimum=10)
    limit.check(ONE, [DEAD] * 9)


def test_a_batch_that_would_be_too_much_is_refused_and_leaves_no_trace() -> None:
    limit = DlqLimit(limit=0.5, window=100, minimum=10)
    for _ in range(2):
        with pytest.raises(DlqRateExceeded, match="10 of the last 10"):
            limit.check(ONE, [DEAD] * 10)
    limit.check(ONE, [DEAD] * 9)


def test_the_good_ones_before_count_too() -> None:
    limit = DlqLimit(limit=0.5, window=100, minimum=10)
    _commit(limit, [APPLIED] * 50)
    _commit(limit, [DEAD] * 50)
    with pytest.raises(DlqRateExceeded, match="51 of the last 101"):
        limit.check(ONE, [DEAD])


def test_what_left_the_window_does_not_count() -> None:
    limit = DlqLimit(limit=0.5, window=10, minimum=5)
    _commit(limit, [APPLIED] * 1000)
    _commit(limit, [APPLIED] * 10)
    with pytest.raises(DlqRateExceeded):
        limit.check(ONE, [DEAD] * 11)


def test_the_dead_that_left_the_window_are_forgiven() -> None:
    limit = DlqLimit(limit=0.5, window=10, minimum=5)
    _commit(limit, [APPLIED] * 9 + [DEAD] * 4)
    _commit(limit, [APPLIED] * 10)
    limit.check(ONE, [DEAD] * 4)


def test_batches_that_are_under_way_side_by_side_are_not_too_many_together() -> None:
    limit = DlqLimit(limit=0.5, window=100, minimum=10)
    limit.check(ONE, [DEAD] * 6)
    with pytest.raises(DlqRateExceeded, match="11 of the last 11"):
        limit.check(OTHER, [DEAD] * 5)


def test_a_batch_that_was_rolled_back_is_forgotten_when_its_owner_comes_again() -> None:
    limit = DlqLimit(limit=0.5, window=100, minimum=10)
    limit.check(ONE, [DEAD] * 9)
    limit.check(ONE, [DEAD] * 9)
    with pytest.raises(DlqRateExceeded):
        limit.check(ONE, [DEAD] * 10)
    limit.check(OTHER, [DEAD] * 9)


def _commit(limit: DlqLimit, outcomes: list[Outcome]) -> None:
    limit.check(ONE, outcomes)
    limit.record(ONE, outcomes)
