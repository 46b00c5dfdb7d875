"""`decide` for KYC: which status a verdict leads to, and in which order verdicts count."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.domain.kyc import (
    ALREADY_APPLIED,
    KycRequest,
    KycRules,
    KycStatus,
    VerificationResult,
    decide,
    decide_manually,
    expiry_step,
    fetched_write_version,
)
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, VERSION_MISSING, FieldOutcome, Status
from safevideo_common.domain.times import EARLIEST, LATEST

RULES = KycRules()
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
    after, outcome = decide(REQUEST, replace(PASSED, status=status, risk_score=score), RULES)
    assert (after.status, outcome) == (expected, APPLIED)


def test_decide_applies_a_later_result_to_a_verified_request() -> None:
    verified, _ = decide(REQUEST, PASSED, RULES)
    after, outcome = decide(verified, replace(PASSED, status="failed", write_version=WriteVersion(None, 11)), RULES)
    assert (after.status, outcome) == (KycStatus.REJECTED, APPLIED)


def test_decide_ignores_an_earlier_result_that_arrives_later_as_stale() -> None:
    verified, _ = decide(REQUEST, PASSED, RULES)
    earlier = replace(PASSED, status="failed", write_version=WriteVersion(None, 9))
    after, outcome = decide(verified, earlier, RULES)
    assert (after, outcome.status) == (verified, Status.STALE)
    assert outcome.reason == "OVERTAKEN: result by an event of 1970-01-01T00:00:00Z"
    assert outcome.fields == FieldOutcome(None, (), {"result": PASSED.write_version})


def test_decide_prefers_a_version_to_a_later_time_without_one() -> None:
    versioned, _ = decide(REQUEST, replace(PASSED, write_version=WriteVersion(1, 10)), RULES)
    later = replace(PASSED, status="failed", write_version=WriteVersion(None, 99))
    assert decide(versioned, later, RULES) == (versioned, VERSION_MISSING)


def test_decide_dead_letters_a_result_of_another_performer() -> None:
    after, outcome = decide(REQUEST, replace(PASSED, performer_id="sg_2"), RULES)
    assert after == REQUEST
    assert outcome.status is Status.DEAD
    assert outcome.reason is not None
    assert outcome.reason.startswith("PERFORMER_MISMATCH")


def test_decide_dead_letters_a_failed_event_with_a_passed_result() -> None:
    _, outcome = decide(REQUEST, replace(PASSED, reported_failed=True), RULES)
    assert outcome.status is Status.DEAD


def test_decide_changes_nothing_when_a_result_arrives_twice() -> None:
    once, _ = decide(REQUEST, PASSED, RULES)
    assert decide(once, PASSED, RULES) == (once, APPLIED)


REVIEW = replace(PASSED, status="review", risk_score=None)


def test_manual_decision_stands_against_what_happened_before_it_and_against_replays() -> None:
    reviewed, _ = decide(REQUEST, REVIEW, RULES)
    approved = decide_manually(reviewed, KycStatus.VERIFIED, 20, RULES)
    assert approved.status is KycStatus.VERIFIED
    assert decide(approved, REVIEW, RULES) == (approved, APPLIED)
    late, outcome = decide(approved, replace(PASSED, status="failed", write_version=WriteVersion(None, 15)), RULES)
    assert (late.status, outcome) == (KycStatus.VERIFIED, APPLIED)


def test_manual_decision_stands_against_a_newer_result_that_repeats_its_basis() -> None:
    approved = decide_manually(decide(REQUEST, REVIEW, RULES)[0], KycStatus.VERIFIED, 20, RULES)
    again, _ = decide(approved, replace(REVIEW, risk_score=50, write_version=WriteVersion(None, 30)), RULES)
    assert (again.status, again.risk_score) == (KycStatus.VERIFIED, 50)


def test_newer_result_that_says_something_else_replaces_a_manual_decision() -> None:
    approved = decide_manually(decide(REQUEST, REVIEW, RULES)[0], KycStatus.VERIFIED, 20, RULES)
    failed = replace(PASSED, status="failed", write_version=WriteVersion(None, 30))
    rejected, _ = decide(approved, failed, RULES)
    assert rejected.status is KycStatus.REJECTED
    after, outcome = decide(rejected, REVIEW, RULES)
    assert (after, outcome.status) == (rejected, Status.STALE)
    assert decide_manually(rejected, KycStatus.VERIFIED, 40, RULES).status is KycStatus.VERIFIED


def test_place_of_a_decision_is_that_of_the_version_it_was_based_on_whatever_the_clocks_say() -> None:
    reviewed, _ = decide(REQUEST, replace(REVIEW, write_version=WriteVersion(3, 9_000)), RULES)
    approved = decide_manually(reviewed, KycStatus.VERIFIED, 9_000, RULES)
    repeated, _ = decide(approved, replace(REVIEW, risk_score=50, write_version=WriteVersion(4, 99_000)), RULES)
    assert repeated.status is KycStatus.VERIFIED
    failed = replace(PASSED, status="failed", write_version=WriteVersion(5, 10))
    assert decide(repeated, failed, RULES)[0].status is KycStatus.REJECTED
    tie = replace(failed, write_version=WriteVersion(3, 99_000, arrival=1))
    assert decide(approved, tie, RULES)[0].status is KycStatus.VERIFIED


@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.parametrize("versions", [(None, 2), (None, None), (2, 3)])
def test_result_that_comes_by_two_ways_is_applied_once(versions: tuple[int | None, int | None], decided: bool) -> None:
    first, second = (WriteVersion(version, 5_000_000, arrival) for arrival, version in enumerate(versions))
    once, outcome = decide(REQUEST, replace(REVIEW, write_version=first), RULES)
    assert outcome == APPLIED
    if decided:
        once = decide_manually(once, KycStatus.VERIFIED, 6_000_000, RULES)
    twice, outcome = decide(once, replace(REVIEW, write_version=second), RULES)
    assert (twice, outcome) == (replace(once, write_version=second), ALREADY_APPLIED)


def test_fetched_result_is_newer_than_an_earlier_one_with_a_version() -> None:
    reviewed, _ = decide(REQUEST, replace(REVIEW, write_version=WriteVersion(7, 20, 3)), RULES)
    fetched = replace(PASSED, status="failed", write_version=fetched_write_version(reviewed, 21))
    assert decide(reviewed, fetched, RULES)[0].status is KycStatus.REJECTED
    earlier = replace(fetched, write_version=fetched_write_version(reviewed, 19))
    assert decide(reviewed, earlier, RULES) == (reviewed, VERSION_MISSING)


DAY = timedelta(days=1)
AT = datetime(2026, 11, 28, 10, tzinfo=UTC)
MICROS = int(AT.timestamp()) * 1_000_000
VERIFIED = replace(PASSED, write_version=WriteVersion(None, MICROS))


def test_verified_request_ends_with_its_document_or_with_the_validity_whichever_is_earlier() -> None:
    assert decide(REQUEST, VERIFIED, KycRules(validity=100 * DAY))[0].expires_at == AT + 100 * DAY
    of_document = replace(REQUEST, document_expires_on=date(2027, 1, 5))
    after, _ = decide(of_document, VERIFIED, RULES)
    assert after.expires_at == datetime(2027, 1, 6, tzinfo=UTC)  # the document is valid on its last day
    assert after.expiry_due_at == after.expires_at - 30 * DAY
    rejected, _ = decide(after, replace(VERIFIED, status="failed", write_version=WriteVersion(None, MICROS + 1)), RULES)
    assert (rejected.expires_at, rejected.expiry_due_at) == (None, None)
    approved = decide_manually(rejected, KycStatus.VERIFIED, MICROS + 2, RULES)
    assert approved.expires_at == after.expires_at
    expired = decide_manually(approved, KycStatus.EXPIRED, MICROS + 3, RULES)
    assert (expired.expires_at, expired.expiry_due_at) == (AT, None)


def test_repeated_result_keeps_the_next_warning_of_a_document_that_ends() -> None:
    after, _ = decide(replace(REQUEST, document_expires_on=date(2027, 1, 5)), VERIFIED, RULES)
    warned = replace(after, expiry_due_at=AT + 32 * DAY)
    again, _ = decide(warned, replace(VERIFIED, write_version=WriteVersion(None, MICROS + 5_000_000)), RULES)
    assert again.expiry_due_at == warned.expiry_due_at


@pytest.mark.parametrize(
    ("before_end", "expected"),
    [
        (30 * DAY + timedelta(seconds=1), None),
        (30 * DAY, (30 * DAY, -7 * DAY)),
        (8 * DAY, (30 * DAY, -7 * DAY)),
        (7 * DAY, (7 * DAY, 0 * DAY)),
        (timedelta(seconds=1), (7 * DAY, 0 * DAY)),
        (0 * DAY, (None, None)),
    ],
)
def test_step_before_the_end_is_the_last_warning_that_is_due(
    before_end: timedelta, expected: tuple[timedelta | None, timedelta | None] | None
) -> None:
    step = expiry_step(AT, AT - before_end)
    assert (step and (step.warning, step.next_at and step.next_at - AT)) == expected


@pytest.mark.parametrize("status", ["passed", "review", "failed"])
def test_superseded_request_takes_a_late_result_and_is_not_opened_or_verified_again(status: str) -> None:
    late = replace(PASSED, status=status, risk_score=99.0, write_version=WriteVersion(None, 30))
    rejected, _ = decide(REQUEST, replace(PASSED, status="failed"), RULES)
    after, outcome = decide(replace(rejected, superseded_by=2), late, RULES)
    assert (after.status, outcome) == (KycStatus.REJECTED, APPLIED)
    assert after.result == {"status": status, "riskScore": 99.0, "checks": {"face": "match"}}
    assert decide(after, late, RULES)[0] == after
    expired = decide_manually(decide(REQUEST, PASSED, RULES)[0], KycStatus.EXPIRED, 20, RULES)
    after, _ = decide(replace(expired, superseded_by=2), late, RULES)
    assert after.status is (KycStatus.REJECTED if status == "failed" else KycStatus.EXPIRED)


def test_superseded_request_is_not_verified_by_a_result_that_repeats_what_its_approval_was_based_on() -> None:
    approved = decide_manually(decide(REQUEST, REVIEW, RULES)[0], KycStatus.VERIFIED, 20, RULES)
    rejected, _ = decide(approved, replace(PASSED, status="failed", write_version=WriteVersion(None, 30)), RULES)
    late = replace(REVIEW, write_version=WriteVersion(None, 40))
    assert decide(rejected, late, RULES)[0].status is KycStatus.VERIFIED
    assert decide(replace(rejected, superseded_by=2), late, RULES)[0].status is KycStatus.REJECTED


def test_any_newer_result_replaces_a_decision_without_one() -> None:
    rejected = decide_manually(REQUEST, KycStatus.REJECTED, 5, RULES)
    assert decide(rejected, PASSED, RULES)[0].status is KycStatus.VERIFIED


@given(
    st.lists(
        st.tuples(st.sampled_from(("passed", "review", "failed")), st.none() | st.integers(0, 3), st.integers(0, 9))
    ),
    st.integers(0, 8),
    st.integers(0, 9),
    st.none() | st.just(2),
    st.randoms(),
)
def test_results_after_a_manual_decision_end_in_one_status_in_any_order(
    sent: list[tuple[str, int | None, int]], known: int, at: int, superseded_by: int | None, random: Random
) -> None:
    results = [
        replace(PASSED, status=status, write_version=WriteVersion(version, seconds, arrival))
        for arrival, (status, version, seconds) in enumerate(sent)
    ]
    before = reduce(lambda request, result: decide(request, result, RULES)[0], results[:known], REQUEST)
    decided = replace(decide_manually(before, KycStatus.EXPIRED, at, RULES), superseded_by=superseded_by)

    def after(arrivals: list[VerificationResult]) -> KycRequest:
        return reduce(lambda request, result: decide(request, result, RULES)[0], arrivals, decided)

    shuffled = random.sample([*results, *results], 2 * len(results))
    assert after(shuffled) == after(results)
    assert after([*shuffled, *random.choices(results, k=3)] if results else []) == after(results)


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize("expires_on", [date.min, date(9999, 12, 30), date.max])
@pytest.mark.parametrize("at", [datetime(1001, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)])
@pytest.mark.parametrize("validity", [timedelta(days=31), timedelta(days=36_500)])
def test_a_request_ends_within_the_times_that_a_database_holds(
    expires_on: date, at: datetime, validity: timedelta
) -> None:
    rules = KycRules(validity=validity)
    result = replace(PASSED, write_version=WriteVersion(None, micros(at)))
    request = replace(REQUEST, document_expires_on=expires_on)
    for after in (
        decide(request, result, rules)[0],
        decide_manually(request, KycStatus.VERIFIED, micros(at), rules),
    ):
        assert after.expires_at is not None
        assert after.expiry_due_at is not None
        assert EARLIEST <= after.expiry_due_at <= after.expires_at <= LATEST


def test_a_document_without_end_leaves_the_end_to_the_validity() -> None:
    request = replace(REQUEST, document_expires_on=date(9999, 12, 31))
    at = micros(datetime(2026, 11, 24, tzinfo=UTC))
    after = decide_manually(request, KycStatus.VERIFIED, at, RULES)
    assert after.expires_at == datetime(2026, 11, 24, tzinfo=UTC) + RULES.validity
