"""KYC webhooks: `sharegram.kyc.v1`. The shapes are those of the contract, §7."""

from typing import Annotated, Final, Literal

import msgspec

from safevideo_common.events.envelope import ExternalId, Version

COMPLETED: Final = "kyc.verification.completed"
FAILED: Final = "kyc.verification.failed"
TYPES: Final = (COMPLETED, FAILED)


Checks = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
"""The provider's checks as they were sent: `storable_document` reads them. Nothing in them decides anything."""


def no_checks() -> msgspec.Raw:
    """Return the checks of a result that has none."""
    return msgspec.Raw(b"{}")


class Result(msgspec.Struct, frozen=True, rename="camel"):
    """The provider's result. `risk_score` is from 0 to 100, higher is safer. Nothing in `checks` decides anything."""

    status: Literal["passed", "review", "failed"]
    risk_score: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    checks: Checks = msgspec.field(default_factory=no_checks)


class Verification(msgspec.Struct, frozen=True, rename="camel"):
    """`data` of both KYC events."""

    verification_id: ExternalId
    performer_id: ExternalId
    result: Result
    version: Version | None = None
