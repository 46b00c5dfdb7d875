"""The limit on the rate of dead letters."""

import pytest

from safevideo_common.domain.outcomes import APPLIED, Outcome, dead
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded

ONE, OTHER = "one", "other"
DEAD = dead("BODY_INVALID", "data: not there")


def test_dlq_limit_accepts_fewer_than_the_minimum() -> None:
    dlq_limit = DlqLimit(limit=0.1, window=100, minimum=10)
    dlq_limit.check(ONE, [DEAD] * 9)


def test_dlq_limit_does_not_count_a_rejected_batch() -> None:
    dlq_limit = DlqLimit(limit=0.5, window=100, minimum=10)
    for _ in range(2):
        with pytest.raises(DlqRateExceeded, match="10 of the last 10"):
            dlq_limit.check(ONE, [DEAD] * 10)
    dlq_limit.check(ONE, [DEAD] * 9)


def test_dlq_limit_counts_successful_events() -> None:
    dlq_limit = DlqLimit(limit=0.5, window=100, minimum=10)
    _commit(dlq_limit, [APPLIED] * 50)
    _commit(dlq_limit, [DEAD] * 50)
    with pytest.raises(DlqRateExceeded, match="51 of the last 101"):
        dlq_limit.check(ONE, [DEAD])


def test_dlq_limit_ignores_successful_events_outside_the_window() -> None:
    dlq_limit = DlqLimit(limit=0.5, window=10, minimum=5)
    _commit(dlq_limit, [APPLIED] * 1000)
    _commit(dlq_limit, [APPLIED] * 10)
    with pytest.raises(DlqRateExceeded):
        dlq_limit.check(ONE, [DEAD] * 11)


def test_dlq_limit_ignores_dead_events_outside_the_window() -> None:
    dlq_limit = DlqLimit(limit=0.5, window=10, minimum=5)
    _commit(dlq_limit, [APPLIED] * 9 + [DEAD] * 4)
    _commit(dlq_limit, [APPLIED] * 10)
    dlq_limit.check(ONE, [DEAD] * 4)


def test_dlq_limit_counts_concurrent_batches_together() -> None:
    dlq_limit = DlqLimit(limit=0.5, window=100, minimum=10)
    dlq_limit.check(ONE, [DEAD] * 6)
    with pytest.raises(DlqRateExceeded, match="11 of the last 11"):
        dlq_limit.check(OTHER, [DEAD] * 5)


def test_dlq_limit_forgets_a_rolled_back_batch_of_the_same_owner() -> None:
    dlq_limit = DlqLimit(limit=0.5, window=100, minimum=10)
    dlq_limit.check(ONE, [DEAD] * 9)
    dlq_limit.check(ONE, [DEAD] * 9)
    with pytest.raises(DlqRateExceeded):
        dlq_limit.check(ONE, [DEAD] * 10)
    dlq_limit.check(OTHER, [DEAD] * 9)


def _commit(dlq_limit: DlqLimit, outcomes: list[Outcome]) -> None:
    dlq_limit.check(ONE, outcomes)
    dlq_limit.record(ONE, outcomes)
