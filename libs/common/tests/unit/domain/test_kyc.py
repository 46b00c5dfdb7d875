"""`decide` for KYC: which status a verdict leads to, and in which order verdicts count."""

from dataclasses import replace

import pytest

from safevideo_common.domain.kyc import KycRequest, KycStatus, VerificationResult, decide
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, STALE, VERSION_MISSING, Status

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
    assert decide(verified, earlier, 80) == (verified, STALE)


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
