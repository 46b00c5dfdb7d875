"""A KYC request and the provider's verdicts on it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, STALE, Outcome, dead

AUTO_APPROVE_SCORE: Final = 80
"""Default of `KYC_AUTO_APPROVE_SCORE`: a passed verification at or over it needs no person."""


class KycStatus(StrEnum):
    """`pending → in_progress → (in_review →) verified | rejected`, `verified → expired` (contract, §4)."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    IN_REVIEW = "in_review"
    VERIFIED = "verified"
    REJECTED = "rejected"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What the provider found. `risk_score` runs from 0 to 100, higher is safer."""

    performer_id: str
    status: str
    risk_score: float | None
    checks: Mapping[str, object]
    stamp: WriteVersion
    says_failed: bool
    """Whether the event's type says that the verification failed."""


@dataclass(frozen=True, slots=True)
class KycRequest:
    """One request: its state here, and the last verdict that it took."""

    id: int
    performer_id: str
    verification_id: str
    status: KycStatus
    risk_score: float | None = None
    result: Mapping[str, object] | None = None
    stamp: WriteVersion | None = None


def decide(request: KycRequest, verdict: VerificationResult, auto_approve_score: float) -> tuple[KycRequest, Outcome]:
    """The request after `verdict`, and what became of the event.

    A provider may correct itself, so every newer verdict applies, also on a request that was verified or rejected.
    """
    if fault := _contradiction(request, verdict):
        return request, fault
    if request.stamp is not None and request.stamp.is_newer_than(verdict.stamp):
        return request, STALE
    after = replace(
        request,
        status=status_after(verdict, auto_approve_score),
        risk_score=verdict.risk_score,
        result={"status": verdict.status, "riskScore": verdict.risk_score, "checks": dict(verdict.checks)},
        stamp=verdict.stamp,
    )
    return after, APPLIED


def status_after(verdict: VerificationResult, auto_approve_score: float) -> KycStatus:
    """Contract, §4: a pass at or over the score verifies, a failure rejects, everything between goes to a person."""
    if verdict.status == "failed":
        return KycStatus.REJECTED
    safe = verdict.risk_score is not None and verdict.risk_score >= auto_approve_score
    return KycStatus.VERIFIED if verdict.status == "passed" and safe else KycStatus.IN_REVIEW


def _contradiction(request: KycRequest, verdict: VerificationResult) -> Outcome | None:
    if verdict.performer_id != request.performer_id:
        return dead("PERFORMER_MISMATCH", "the verification belongs to another performer")
    if verdict.says_failed and verdict.status != "failed":
        return dead("CONTRADICTORY_RESULT", "the event says that the verification failed, its result does not")
    return None
