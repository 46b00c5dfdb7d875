"""The parser of verification events."""

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
    """A result, the verification that it completes or corrects, and the envelope of the event that caused it."""

    verification_id: str
    result: VerificationResult
    cause: Envelope


class _Webhook(msgspec.Struct, frozen=True):
    data: kyc.Verification


_decoder: Final = msgspec.json.Decoder(_Webhook)


def parse_verification(delivery: Delivery) -> VerificationEvent | Outcome:
    """Return the event in the body, `ignored` for an unknown type, or `dead` for an invalid body."""
    if delivery.envelope.type not in kyc.TYPES:
        return IGNORED
    try:
        data = _decoder.decode(delivery.body).data
    except SCHEMA_MISMATCH as error:
        return dead("BODY_INVALID", ": ".join(field_and_reason(error)))
    result = VerificationResult(
        performer_id=data.performer_id,
        status=data.result.status,
        risk_score=data.result.risk_score,
        checks=data.result.checks,
        write_version=write_version_of(data.version, delivery.envelope.time, delivery.offset),
        reported_failed=delivery.envelope.type == kyc.FAILED,
    )
    return VerificationEvent(data.verification_id, result, delivery.envelope)
