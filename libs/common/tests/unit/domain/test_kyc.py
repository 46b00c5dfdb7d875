"""`decide` for KYC: which status a verdict leads to, and in which order verdicts count."""

from dataclasses import replace
from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.domain.kyc import KycRequest, KycStatus, VerificationResult, decide, decide_manually
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, VERSION_MISSING, FieldOutcome, Status

REQUEST = KycRequest(id=1, performer_id="sg_1", verification_id="ver_1", status=KycStatus.IN_PROGRESS)
PASSED = VerificationResult("sg_1", "passed", 95.0, {"face": "match"}, WriteVersion(None, 10), reported_failed=False)


@pytest.mark.parametrize(
    ("status", "score", "expected"),
    [
        ("passed", 95.0, KycStatus.VERIFIED),
        ("passed", 80.0, KycStatus.VERIFIED),
        ("passed", 79.9, KycStatus.IN_REVIEW),
        ("passed", None, KycStatus.IN_REVIEW),
        ("review", 99.0, KycStatus.IN_REVIEW),
        ("failed", 99.0, KycStatus.REJECTED),
    ],
)
def test_decide_sets_the_status_of_the_contract(status: str, score: float | None, expected: KycStatus) -> None:
    after, outcome = decide(REQUEST, replace(PASSED, status=status, risk_score=score), 80)
    assert (after.status, outcome) == (expected, APPLIED)


def test_decide_applies_a_later_result_to_a_verified_request() -> None:
    verified, _ = decide(REQUEST, PASSED, 80)
    after, outcome = decide(verified, replace(PASSED, status="failed", write_version=WriteVersion(None, 11)), 80)
    assert (after.status, outcome) == (KycStatus.REJECTED, APPLIED)


def test_decide_ignores_an_earlier_result_that_arrives_later_as_stale() -> None:
    verified, _ = decide(REQUEST, PASSED, 80)
    earlier = replace(PASSED, status="failed", write_version=WriteVersion(None, 9))
    after, outcome = decide(verified, earlier, 80)
    assert (after, outcome.status) == (verified, Status.STALE)
    assert outcome.reason == "OVERTAKEN: result by an event of 1970-01-01T00:00:00Z"
    assert outcome.fields == FieldOutcome(None, (), {"result": PASSED.write_version})


def test_decide_prefers_a_version_to_a_later_time_without_one() -> None:
    versioned, _ = decide(REQUEST, replace(PASSED, write_version=WriteVersion(1, 10)), 80)
    later = replace(PASSED, status="failed", write_version=WriteVersion(None, 99))
    assert decide(versioned, later, 80) == (versioned, VERSION_MISSING)


def test_decide_dead_letters_a_result_of_another_performer() -> None:
    after, outcome = decide(REQUEST, replace(PASSED, performer_id="sg_2"), 80)
    assert after == REQUEST
    assert outcome.status is Status.DEAD
    assert outcome.reason is not None
    assert outcome.reason.startswith("PERFORMER_MISMATCH")


def test_decide_dead_letters_a_failed_event_with_a_passed_result() -> None:
    _, outcome = decide(REQUEST, replace(PASSED, reported_failed=True), 80)
    assert outcome.status is Status.DEAD


def test_decide_changes_nothing_when_a_result_arrives_twice() -> None:
    once, _ = decide(REQUEST, PASSED, 80)
    assert decide(once, PASSED, 80) == (once, APPLIED)


REVIEW = replace(PASSED, status="review", risk_score=None)


def test_manual_decision_stands_against_what_happened_before_it_and_against_replays() -> None:
    reviewed, _ = decide(REQUEST, REVIEW, 80)
    approved = decide_manually(reviewed, KycStatus.VERIFIED, 20, 80)
    assert approved.status is KycStatus.VERIFIED
    assert decide(approved, REVIEW, 80) == (approved, APPLIED)
    late, outcome = decide(approved, replace(PASSED, status="failed", write_version=WriteVersion(None, 15)), 80)
    assert (late.status, outcome) == (KycStatus.VERIFIED, APPLIED)


def test_manual_decision_stands_against_a_newer_result_that_repeats_its_basis() -> None:
    approved = decide_manually(decide(REQUEST, REVIEW, 80)[0], KycStatus.VERIFIED, 20, 80)
    again, _ = decide(approved, replace(REVIEW, risk_score=50, write_version=WriteVersion(None, 30)), 80)
    assert (again.status, again.risk_score) == (KycStatus.VERIFIED, 50)


def test_newer_result_that_says_something_else_replaces_a_manual_decision() -> None:
    approved = decide_manually(decide(REQUEST, REVIEW, 80)[0], KycStatus.VERIFIED, 20, 80)
    failed = replace(PASSED, status="failed", write_version=WriteVersion(None, 30))
    rejected, _ = decide(approved, failed, 80)
    assert rejected.status is KycStatus.REJECTED
    after, outcome = decide(rejected, REVIEW, 80)
    assert (after, outcome.status) == (rejected, Status.STALE)
    assert decide_manually(rejected, KycStatus.VERIFIED, 40, 80).status is KycStatus.VERIFIED


def test_any_newer_result_replaces_a_decision_without_one() -> None:
    rejected = decide_manually(REQUEST, KycStatus.REJECTED, 5, 80)
    assert decide(rejected, PASSED, 80)[0].status is KycStatus.VERIFIED


@given(
    st.lists(
        st.tuples(st.sampled_from(("passed", "review", "failed")), st.none() | st.integers(0, 3), st.integers(0, 9))
    ),
    st.integers(0, 8),
    st.integers(0, 9),
    st.randoms(),
)
def test_results_after_a_manual_decision_end_in_one_status_in_any_order(
    sent: list[tuple[str, int | None, int]], known: int, at: int, random: Random
) -> None:
    results = [
        replace(PASSED, status=status, write_version=WriteVersion(version, seconds, arrival))
        for arrival, (status, version, seconds) in enumerate(sent)
    ]
    before = reduce(lambda request, result: decide(request, result, 80)[0], results[:known], REQUEST)
    decided = decide_manually(before, KycStatus.EXPIRED, at, 80)

    def after(arrivals: list[VerificationResult]) -> KycRequest:
        return reduce(lambda request, result: decide(request, result, 80)[0], arrivals, decided)

    shuffled = random.sample([*results, *results], 2 * len(results))
    assert after(shuffled) == after(results)
    assert after([*shuffled, *random.choices(results, k=3)] if results else []) == after(results)
