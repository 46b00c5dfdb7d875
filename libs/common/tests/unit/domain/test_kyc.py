"""`decide` for KYC: which status a verdict leads to, and in which order verdicts count."""

from dataclasses import replace

import pytest

from safevideo_common.domain.kyc import KycRequest, KycStatus, VerificationResult, decide
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, STALE, Status

REQUEST = KycRequest(id=1, performer_id="sg_1", verification_id="ver_1", status=KycStatus.IN_PROGRESS)
PASSED = VerificationResult("sg_1", "passed", 95.0, {"face": "match"}, WriteVersion(None, 10), says_failed=False)


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
def test_a_verdict_leads_to_the_status_of_the_contract(status: str, score: float | None, expected: KycStatus) -> None:
    after, outcome = decide(REQUEST, replace(PASSED, status=status, risk_score=score), 80)
    assert (after.status, outcome) == (expected, APPLIED)


def test_a_later_verdict_corrects_a_verified_request() -> None:
    verified, _ = decide(REQUEST, PASSED, 80)
    after, outcome = decide(verified, replace(PASSED, status="failed", stamp=WriteVersion(None, 11)), 80)
    assert (after.status, outcome) == (KycStatus.REJECTED, APPLIED)


def test_an_earlier_verdict_that_arrives_later_is_stale() -> None:
    verified, _ = decide(REQUEST, PASSED, 80)
    assert decide(verified, replace(PASSED, status="failed", stamp=WriteVersion(None, 9)), 80) == (verified, STALE)


def test_a_verdict_on_another_performers_verification_is_dead() -> None:
    after, outcome = decide(REQUEST, replace(PASSED, performer_id="sg_2"), 80)
    assert after == REQUEST
    assert outcome.status is Status.DEAD
    assert outcome.reason is not None
    assert outcome.reason.startswith("PERFORMER_MISMATCH")


def test_a_failed_event_whose_result_did_not_fail_is_dead() -> None:
    _, outcome = decide(REQUEST, replace(PASSED, says_failed=True), 80)
    assert outcome.status is Status.DEAD


def test_the_same_verdict_twice_ends_in_the_same_request() -> None:
    once, _ = decide(REQUEST, PASSED, 80)
    assert decide(once, PASSED, 80) == (once, APPLIED)
