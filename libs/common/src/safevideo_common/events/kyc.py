"""KYC webhooks: `sharegram.kyc.v1`. The shapes are those of the contract, §7."""

from typing import Annotated, Final, Literal

import msgspec

from safevideo_common.events.envelope import ExternalId, Version

COMPLETED: Final = "kyc.verification.completed"
FAILED: Final = "kyc.verification.failed"
TYPES: Final = (COMPLETED, FAILED)


class Result(msgspec.Struct, frozen=True, rename="camel"):
    """The provider's result. `risk_score` is from 0 to 100, higher is safer."""

    status: Literal["passed", "review", "failed"]
    risk_score: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    checks: dict[str, object] = {}


class Verification(msgspec.Struct, frozen=True, rename="camel"):
    """`data` of both KYC events."""

    verification_id: ExternalId
    performer_id: ExternalId
    result: Result
    version: Version | None = None
