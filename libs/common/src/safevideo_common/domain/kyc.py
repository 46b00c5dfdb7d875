"""A KYC request and the provider's verification results."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import FieldOutcome, Outcome, applied, dead, stale

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


OPEN: Final = frozenset({KycStatus.PENDING, KycStatus.IN_PROGRESS, KycStatus.IN_REVIEW})
"""A request that is not decided yet."""


class Trigger(StrEnum):
    """The cause of a change of status."""

    DOCUMENTS = "documents"
    """The last required document is there."""
    RESULT = "result"
    """The provider reported a result, or corrected one."""
    FAILURE = "failure"
    """The provider cannot verify the request: a person decides."""
    PERSON = "person"
    CLOCK = "clock"


class Transition(NamedTuple):
    """An allowed change of status."""

    before: KycStatus
    after: KycStatus
    trigger: Trigger


def _transitions(trigger: Trigger, after: Mapping[KycStatus, tuple[KycStatus, ...]]) -> set[Transition]:
    return {Transition(before, each, trigger) for before, statuses in after.items() for each in statuses}


_RESULTS: Final = (KycStatus.IN_REVIEW, KycStatus.VERIFIED, KycStatus.REJECTED)
TRANSITIONS: Final = frozenset(
    _transitions(Trigger.DOCUMENTS, {KycStatus.PENDING: (KycStatus.IN_PROGRESS,)})
    | _transitions(Trigger.FAILURE, {KycStatus.IN_PROGRESS: (KycStatus.IN_REVIEW,)})
    | _transitions(
        Trigger.RESULT,
        {
            before: tuple(after for after in _RESULTS if after is not before)
            for before in (KycStatus.IN_PROGRESS, *_RESULTS, KycStatus.EXPIRED)
        },
    )
    | _transitions(
        Trigger.PERSON,
        {
            KycStatus.PENDING: (KycStatus.REJECTED,),
            KycStatus.IN_PROGRESS: (KycStatus.VERIFIED, KycStatus.REJECTED),
            KycStatus.IN_REVIEW: (KycStatus.VERIFIED, KycStatus.REJECTED),
            KycStatus.VERIFIED: (KycStatus.REJECTED,),
        },
    )
    | _transitions(Trigger.CLOCK, {KycStatus.PENDING: (KycStatus.EXPIRED,), KycStatus.VERIFIED: (KycStatus.EXPIRED,)})
)
"""The state machine of a request. `docs/kyc.md` draws it."""


class RejectionReason(StrEnum):
    """The reason for which a person rejects a request."""

    DOCUMENT_UNCLEAR = "document_unclear"
    DOCUMENT_EXPIRED = "document_expired"
    MISMATCH = "mismatch"
    SUSPICIOUS = "suspicious"
    UNDERAGE = "underage"
    OTHER = "other"


FINAL_REASONS: Final = frozenset({RejectionReason.SUSPICIOUS, RejectionReason.UNDERAGE})
"""After these nobody submits again until an admin reopens the request."""


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
class ManualDecision:
    """A status that a person has set, or the clock (`expired`). It has no place among the provider's write versions.

    It stands against every result that happened before it, whenever that arrives, and against one that only repeats
    what the decision was based on. A newer result that says something else replaces it.
    """

    status: KycStatus
    at_micros: int
    """Unix microseconds of the decision, by our clock."""
    basis: KycStatus | None
    """The status that the last result led to at that time; None if there was none."""


@dataclass(frozen=True, slots=True)
class KycRequest:
    """A request: its state here, and the last verification result applied to it."""

    id: int
    performer_id: str
    verification_id: str | None
    """None until the provider has begun."""
    status: KycStatus
    risk_score: float | None = None
    result: Mapping[str, object] | None = None
    write_version: WriteVersion | None = None
    decision: ManualDecision | None = None
    """The last one. It may have been replaced by a newer result since."""
    sequence: int = 0
    """That of the last published change; whoever publishes one raises it."""


def decide(request: KycRequest, result: VerificationResult, auto_approve_score: float) -> tuple[KycRequest, Outcome]:
    """Return the request after `result`, and the outcome of the event.

    A provider may correct itself, so every newer result applies, also to a request that was verified or rejected.
    """
    if contradiction := _contradiction(request, result):
        return request, contradiction
    if request.write_version is not None and request.write_version.wins_over(result.write_version):
        return request, stale(FieldOutcome(result.write_version.version, overtaken={"result": request.write_version}))
    after = replace(
        request,
        status=_status(request.decision, result, auto_approve_score),
        risk_score=result.risk_score,
        result=_document(result),
        write_version=result.write_version,
    )
    return after, applied(FieldOutcome(result.write_version.version, ("result",)))


def decide_manually(request: KycRequest, status: KycStatus, at_micros: int, auto_approve_score: float) -> KycRequest:
    """Return the request after a decision at `at_micros`. The caller has checked that it may be made.

    A later decision replaces an earlier one. Neither a late webhook nor a forced replay undoes it.
    """
    basis = None
    if request.result is not None:
        score = request.result["riskScore"]
        basis = status_after(
            str(request.result["status"]), score if isinstance(score, int | float) else None, auto_approve_score
        )
    return replace(request, status=status, decision=ManualDecision(status, at_micros, basis))


def has_result(request: KycRequest, result: VerificationResult) -> bool:
    """Return whether the request has this very result already: the same content at the same millisecond."""
    written, new = request.write_version, result.write_version
    if written is None or request.result is None or written.at_micros // 1000 != new.at_micros // 1000:
        return False
    return dict(request.result) == _document(result)


def is_allowed(before: KycStatus, after: KycStatus, trigger: Trigger) -> bool:
    """Return whether `trigger` may change the status so."""
    return Transition(before, after, trigger) in TRANSITIONS


def status_after(result_status: str, risk_score: float | None, auto_approve_score: float) -> KycStatus:
    """Return the status that a result leads to (contract, §4): neither a safe pass nor a failure goes to a person."""
    if result_status == "failed":
        return KycStatus.REJECTED
    safe = risk_score is not None and risk_score >= auto_approve_score
    return KycStatus.VERIFIED if result_status == "passed" and safe else KycStatus.IN_REVIEW


def _status(decision: ManualDecision | None, newest: VerificationResult, auto_approve_score: float) -> KycStatus:
    status = status_after(newest.status, newest.risk_score, auto_approve_score)
    if decision is None:
        return status
    is_earlier = newest.write_version.at_micros <= decision.at_micros
    return decision.status if is_earlier or status is decision.basis else status


def _document(result: VerificationResult) -> dict[str, object]:
    return {"status": result.status, "riskScore": result.risk_score, "checks": dict(result.checks)}


def _contradiction(request: KycRequest, result: VerificationResult) -> Outcome | None:
    if result.performer_id != request.performer_id:
        return dead("PERFORMER_MISMATCH", "the verification belongs to another performer")
    if result.reported_failed and result.status != "failed":
        return dead("CONTRADICTORY_RESULT", "the event says that the verification failed, its result does not")
    return None
