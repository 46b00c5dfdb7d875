"""The result that Sharegram reported for a KYC request, beside what was decided here, for the API and the commands."""

from typing import TypedDict

from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.domain.kyc import FINAL_REASONS
from safevideo_common.events.envelope import time_of, time_of_micros


class ProviderResultDocument(TypedDict):
    """The newest result of the provider."""

    status: str
    riskScore: float | None
    version: int | None
    reportedAt: TimestampText


class KycDecisionDocument(TypedDict):
    """The last decision of a person, or of the clock. A newer result that says something else replaces its effect."""

    status: str
    reason: str | None
    decidedAt: TimestampText


class KycStandingDocument(TypedDict):
    """A status and the two that it comes from. `reviewReason` says why a decided request waits for a person again.

    `supersededBy` is the later request that took its place: then `provider` may say `passed`, and the status stays.
    """

    requestId: int
    performerId: str
    status: str
    provider: ProviderResultDocument | None
    decision: KycDecisionDocument | None
    expiresAt: TimestampText | None
    reviewReason: str | None
    supersededBy: int | None


def standing(stored: StoredKycRequest, *, for_reviewer: bool) -> KycStandingDocument:
    """Return the status of a request. Only a reviewer sees the reason of a final rejection."""
    request = stored.request
    return {
        "requestId": request.id,
        "performerId": request.performer_id,
        "status": request.status,
        "provider": _provider_result(stored),
        "decision": _decision(stored, for_reviewer=for_reviewer),
        "expiresAt": format_timestamp(request.expires_at),
        "reviewReason": stored.review_reason if for_reviewer else None,
        "supersededBy": request.superseded_by,
    }


def _provider_result(stored: StoredKycRequest) -> ProviderResultDocument | None:
    request = stored.request
    if request.result is None or request.write_version is None:
        return None
    return {
        "status": str(request.result["status"]),
        "riskScore": request.risk_score,
        "version": request.write_version.version,
        "reportedAt": rfc3339(time_of(request.write_version)),
    }


def _decision(stored: StoredKycRequest, *, for_reviewer: bool) -> KycDecisionDocument | None:
    decision, reason = stored.request.decision, stored.decision_reason
    if decision is None:
        return None
    return {
        "status": decision.status,
        "reason": reason if for_reviewer or reason not in FINAL_REASONS else None,
        "decidedAt": rfc3339(time_of_micros(decision.at_micros)),
    }
