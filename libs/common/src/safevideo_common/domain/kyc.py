"""A KYC request and the provider's verification results."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import APPLIED, STALE, VERSION_MISSING, Outcome, dead

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
    """The result that the provider reported. `risk_score` is from 0 to 100, higher is safer."""

    performer_id: str
    status: str
    risk_score: float | None
    checks: Mapping[str, object]
    write_version: WriteVersion
    reported_failed: bool
    """True if the event's type reports a failed verification."""


@dataclass(frozen=True, slots=True)
class KycRequest:
    """A request: its state here, and the last verification result applied to it."""

    id: int
    performer_id: str
    verification_id: str
    status: KycStatus
    risk_score: float | None = None
    result: Mapping[str, object] | None = None
    write_version: WriteVersion | None = None
    sequence: int = 0
    """That of the last published change; whoever publishes one raises it."""


def decide(request: KycRequest, result: VerificationResult, auto_approve_score: float) -> tuple[KycRequest, Outcome]:
    """Return the request after `result`, and the outcome of the event.

    A provider may correct itself, so every newer result applies, also to a request that was verified or rejected.
    """
    if contradiction := _contradiction(request, result):
        return request, contradiction
    if request.write_version is not None and request.write_version.wins_over(result.write_version):
        is_unversioned = result.write_version.version is None and request.write_version.version is not None
        return request, VERSION_MISSING if is_unversioned else STALE
    after = replace(
        request,
        status=status_after(result, auto_approve_score),
        risk_score=result.risk_score,
        result={"status": result.status, "riskScore": result.risk_score, "checks": dict(result.checks)},
        write_version=result.write_version,
    )
    return after, APPLIED


def status_after(result: VerificationResult, auto_approve_score: float) -> KycStatus:
    """Return the status that `result` leads to (contract, §4): neither a safe pass nor a failure goes to a person."""
    if result.status == "failed":
        return KycStatus.REJECTED
    safe = result.risk_score is not None and result.risk_score >= auto_approve_score
    return KycStatus.VERIFIED if result.status == "passed" and safe else KycStatus.IN_REVIEW


def _contradiction(request: KycRequest, result: VerificationResult) -> Outcome | None:
    if result.performer_id != request.performer_id:
        return dead("PERFORMER_MISMATCH", "the verification belongs to another performer")
    if result.reported_failed and result.status != "failed":
        return dead("CONTRADICTORY_RESULT", "the event says that the verification failed, its result does not")
    return None
