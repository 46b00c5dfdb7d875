"""From a KYC webhook's body to the verdict that it carries."""

from dataclasses import dataclass
from typing import Final

import msgspec

from safevideo_common.domain.kyc import VerificationResult
from safevideo_common.domain.outcomes import IGNORED, Outcome, dead
from safevideo_common.events import kyc
from safevideo_common.events.envelope import Envelope, write_version_of
from safevideo_common.events.schema_errors import SCHEMA_MISMATCH, field_and_reason
from safevideo_common.inbox.handler import Delivery


@dataclass(frozen=True, slots=True)
class VerificationEvent:
    """A verdict and the verification that it ends or corrects. `cause` is the envelope that it came in."""

    verification_id: str
    verdict: VerificationResult
    cause: Envelope


class _Webhook(msgspec.Struct, frozen=True):
    data: kyc.Verification


_decoder: Final = msgspec.json.Decoder(_Webhook)


def parse_verification(delivery: Delivery) -> VerificationEvent | Outcome:
    """The event in the body; `ignored` for a type that is not known here, `dead` for a body of another shape."""
    if delivery.envelope.type not in kyc.TYPES:
        return IGNORED
    try:
        data = _decoder.decode(delivery.body).data
    except SCHEMA_MISMATCH as error:
        return dead("BODY_INVALID", ": ".join(field_and_reason(error)))
    verdict = VerificationResult(
        performer_id=data.performer_id,
        status=data.result.status,
        risk_score=data.result.risk_score,
        checks=data.result.checks,
        write_version=write_version_of(data.version, delivery.envelope.time, delivery.offset),
        reported_failed=delivery.envelope.type == kyc.FAILED,
    )
    return VerificationEvent(data.verification_id, verdict, delivery.envelope)
