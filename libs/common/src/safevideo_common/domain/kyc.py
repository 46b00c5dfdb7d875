"""A KYC request and the provider's verification results."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import FieldOutcome, Outcome, Status, applied, dead, stale
from safevideo_common.domain.times import add

AUTO_APPROVE_SCORE: Final = 80
"""Default of `KYC_AUTO_APPROVE_SCORE`: a passed verification at or over it needs no person."""
VALIDITY: Final = timedelta(days=730)
"""Default of `KYC_VALIDITY_DAYS`: the time after which a verified request expires at the latest."""
EXPIRY_WARNINGS: Final = (timedelta(days=30), timedelta(days=7))
"""So long before a verified request expires it is announced."""
RENEWAL_WINDOW: Final = timedelta(days=30)
"""So long before its end a verified request may be renewed."""


@dataclass(frozen=True, slots=True)
class KycRules:
    """The settings that decide about requests."""

    auto_approve_score: float = AUTO_APPROVE_SCORE
    validity: timedelta = VALIDITY


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
ENDED: Final = frozenset({KycStatus.REJECTED, KycStatus.EXPIRED})
"""A later request takes the place of such a one for good."""


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
        }
        | {KycStatus.REJECTED: (KycStatus.IN_REVIEW, KycStatus.VERIFIED, KycStatus.EXPIRED)},
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
    | _transitions(
        Trigger.CLOCK, dict.fromkeys((KycStatus.PENDING, KycStatus.IN_REVIEW, KycStatus.VERIFIED), (KycStatus.EXPIRED,))
    )
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


class ReviewReason(StrEnum):
    """The reason why a person must look at a request again, whatever its status is. A person's decision answers it."""

    PREDECESSOR_FAILED = "predecessor_failed"
    """An earlier verification of the performer had passed, and the provider says now that it failed."""


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


_FETCHED: Final = -1
"""The arrival of a fetched result: before every record, whose arrival is its offset."""
ALREADY_APPLIED: Final = Outcome(
    Status.STALE, "ALREADY_APPLIED: the request has this result already, from another event or a fetch"
)
"""A result is known by its verification, the provider's time and its content, however it came."""


@dataclass(frozen=True, slots=True)
class ManualDecision:
    """A status that a person has set, or the clock (`expired`). It has no place among the provider's write versions.

    It stands behind every result that the request had taken, and behind those which that result is newer than, whenever
    they arrive. It stands against a newer one that only repeats what the decision was based on. A newer result that
    says something else replaces it.
    """

    status: KycStatus
    at_micros: int
    """Unix microseconds of the decision, by our clock."""
    basis: KycStatus | None
    """The status that the last result led to at that time; None if there was none."""
    version: int | None = None
    """The provider's version of that result. A result with a higher one is newer, whatever the clocks say."""


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
    document_expires_on: date | None = None
    """The last day on which the identity document is valid."""
    expires_at: datetime | None = None
    """The end of a verified request; of an expired one the time at which it ended. None in every other status."""
    expiry_due_at: datetime | None = None
    """When the next warning of that end is due, or the end itself; None unless the request is verified."""
    superseded_by: int | None = None
    """The later request of the performer that took the place of this one; None while it may still be verified."""


def decide(request: KycRequest, result: VerificationResult, rules: KycRules) -> tuple[KycRequest, Outcome]:
    """Return the request after `result`, and the outcome of the event.

    A provider may correct itself, so every newer result applies, also to a request that was verified or rejected. A
    superseded request takes it too, and shows it. But no result opens or verifies such a request again.
    """
    if contradiction := _contradiction(request, result):
        return request, contradiction
    if request.write_version is not None and request.write_version.wins_over(result.write_version):
        return request, stale(FieldOutcome(result.write_version.version, overtaken={"result": request.write_version}))
    status, since = _status(request, result, rules)
    after = replace(
        request,
        status=status,
        risk_score=result.risk_score,
        result=_document(result),
        write_version=result.write_version,
    )
    after = _with_expiry(after, since, rules)
    is_repeated = has_result(request, result) and request.write_version != result.write_version
    if is_repeated and replace(after, write_version=request.write_version) == request:
        return after, ALREADY_APPLIED  # with the newer write version: so each order of arrival ends in the same row
    return after, applied(FieldOutcome(result.write_version.version, ("result",)))


def decide_manually(request: KycRequest, status: KycStatus, at_micros: int, rules: KycRules) -> KycRequest:
    """Return the request after a decision at `at_micros`. The caller has checked that it may be made.

    A later decision replaces an earlier one. Neither a late webhook nor a forced replay undoes it.
    """
    basis = None
    if request.result is not None:
        score = request.result["riskScore"]
        basis = status_after(
            str(request.result["status"]),
            score if isinstance(score, int | float) else None,
            rules.auto_approve_score,
        )
    version = request.write_version.version if request.write_version else None
    after = replace(request, status=status, decision=ManualDecision(status, at_micros, basis, version))
    return _with_expiry(after, at_micros, rules)


def scheduled_expiry(request: KycRequest, rules: KycRules) -> KycRequest:
    """Return a verified request whose end is not known yet with its end, and the time of its first warning."""
    decision, write = request.decision, request.write_version
    if decision is not None and decision.status is KycStatus.VERIFIED:
        return _with_expiry(request, decision.at_micros, rules)
    return _with_expiry(request, write.at_micros if write else 0, rules)


class ExpiryStep(NamedTuple):
    """The step that is due for a verified request: a warning, or its end if `warning` is None."""

    warning: timedelta | None
    next_at: datetime | None


def expiry_step(expires_at: datetime, now: datetime) -> ExpiryStep | None:
    """Return what is due at `now`, or None. Of several warnings that were missed it is the last one."""
    if now >= expires_at:
        return ExpiryStep(None, None)
    due = [each for each in EXPIRY_WARNINGS if now >= expires_at - each]
    if not due:
        return None
    later = [expires_at - each for each in EXPIRY_WARNINGS if expires_at - each > now]
    return ExpiryStep(min(due), min(later, default=expires_at))


def had_passed(request: KycRequest) -> bool:
    """Return whether the request was verified, or its last result says so."""
    was_verified = request.status in {KycStatus.VERIFIED, KycStatus.EXPIRED}
    return was_verified or (request.result is not None and request.result["status"] == "passed")


def has_result(request: KycRequest, result: VerificationResult) -> bool:
    """Return whether the request has this very result already: the same content at the same millisecond."""
    written, new = request.write_version, result.write_version
    if written is None or request.result is None or written.at_micros // 1000 != new.at_micros // 1000:
        return False
    return dict(request.result) == _document(result)


def fetched_write_version(request: KycRequest | None, at_micros: int) -> WriteVersion:
    """Return the write version of a result that was fetched: the provider names its time, and no version.

    It is the provider's present result. So if it is later than the last one it is newer, also than one with a version.
    """
    last = request.write_version if request else None
    if last is None or last.version is None or at_micros <= last.at_micros:
        return WriteVersion(None, at_micros, _FETCHED)
    return WriteVersion(last.version, at_micros, last.arrival + 1)


def is_allowed(before: KycStatus, after: KycStatus, trigger: Trigger) -> bool:
    """Return whether `trigger` may change the status so."""
    return Transition(before, after, trigger) in TRANSITIONS


def status_after(result_status: str, risk_score: float | None, auto_approve_score: float) -> KycStatus:
    """Return the status that a result leads to (contract, §4): neither a safe pass nor a failure goes to a person."""
    if result_status == "failed":
        return KycStatus.REJECTED
    safe = risk_score is not None and risk_score >= auto_approve_score
    return KycStatus.VERIFIED if result_status == "passed" and safe else KycStatus.IN_REVIEW


def _status(request: KycRequest, newest: VerificationResult, rules: KycRules) -> tuple[KycStatus, int]:
    """Return the status, and the Unix microseconds of the result or decision that it comes from."""
    decision, write = request.decision, newest.write_version
    status = status_after(newest.status, newest.risk_score, rules.auto_approve_score)
    since = write.at_micros
    if decision is not None and (_is_before(write, decision) or status is decision.basis):
        status, since = decision.status, decision.at_micros
    if request.superseded_by is None or status in ENDED:
        return status, since
    # How a superseded request ended depends on its decision alone. So each order of arrival ends in the same row.
    if decision is not None and decision.status is KycStatus.EXPIRED:
        return KycStatus.EXPIRED, decision.at_micros
    return KycStatus.REJECTED, since


def _with_expiry(request: KycRequest, since_micros: int, rules: KycRules) -> KycRequest:
    """Return the request with its end. A new end has its own warnings. A document may be valid until the year 9999."""
    # In seconds, since the same result has other fractions of a second as a webhook and fetched.
    since = datetime.fromtimestamp(since_micros // 1_000_000, UTC)
    if request.status is not KycStatus.VERIFIED:
        return replace(request, expires_at=since if request.status is KycStatus.EXPIRED else None, expiry_due_at=None)
    ends = [add(since, rules.validity)]
    if request.document_expires_on is not None:
        ends.append(add(datetime.combine(request.document_expires_on, time(), UTC), timedelta(days=1)))
    if request.expires_at == min(ends) and request.expiry_due_at is not None:
        return request
    return replace(request, expires_at=min(ends), expiry_due_at=add(min(ends), -max(EXPIRY_WARNINGS)))


def _is_before(write: WriteVersion, decision: ManualDecision) -> bool:
    if write.version is not None and decision.version is not None:
        return write.version <= decision.version
    return write.at_micros <= decision.at_micros


def _document(result: VerificationResult) -> dict[str, object]:
    return {"status": result.status, "riskScore": result.risk_score, "checks": dict(result.checks)}


def _contradiction(request: KycRequest, result: VerificationResult) -> Outcome | None:
    if result.performer_id != request.performer_id:
        return dead("PERFORMER_MISMATCH", "the verification belongs to another performer")
    if result.reported_failed and result.status != "failed":
        return dead("CONTRADICTORY_RESULT", "the event says that the verification failed, its result does not")
    return None
