"""What changed here, for others: `integration.events.v1`.

Each event that a worker applies makes one change event, whose id is that of its cause: source and id together are
unique, and a change that is published twice has the same. Key and subject are Sharegram's performer id.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec

from safevideo_common.broker.types import Message
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.events.envelope import Envelope, ExternalId
from safevideo_common.events.topics import CHANGES, KYC_WORKER, SYNC_WORKER

PERFORMER_CHANGED: Final = "integration.performer.changed"
KYC_CHANGED: Final = "integration.kyc.changed"


def source_of(group: str) -> str:
    """The `ce_source` of what a consumer group tells."""
    return f"/safevideo/{group}"


SOURCES: Final = {PERFORMER_CHANGED: source_of(SYNC_WORKER), KYC_CHANGED: source_of(KYC_WORKER)}
"""Each type of change has one teller."""


class PerformerChange(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A performer's fields that the event has won, by their names on the wire, with their new values.

    Changes of one performer come in the order in which they were applied; the last one of a field is its value.
    `version` and `at` are the provider's, of the event `causedBy`: its place in the provider's order, which may be
    before that of a change that came earlier and was of other fields.
    """

    performer_id: ExternalId
    changes: Annotated[Mapping[str, object], msgspec.Meta(description="Fields of Profile, and status.")]
    version: int | None
    at: datetime
    caused_by: str


class KycChange(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A KYC request that took a verdict. `requestId` is ours; `status` may be what it was before."""

    performer_id: ExternalId
    request_id: int
    verification_id: ExternalId
    status: KycStatus
    previous_status: KycStatus
    risk_score: float | None
    version: int | None
    at: datetime
    caused_by: str


_encode: Final = msgspec.json.Encoder().encode


def performer_changed(cause: Envelope, change: PerformerChange) -> Message:
    """The event that tells of `change`."""
    return _message(PERFORMER_CHANGED, cause, change.performer_id, _encode(change))


def kyc_changed(cause: Envelope, change: KycChange) -> Message:
    """The event that tells of `change`."""
    return _message(KYC_CHANGED, cause, change.performer_id, _encode(change))


def _message(change_type: str, cause: Envelope, performer_id: str, body: bytes) -> Message:
    told = Envelope(
        cause.id, change_type, cause.time, performer_id, cause.request_id, cause.traceparent, SOURCES[change_type]
    )
    return Message(CHANGES, performer_id.encode(), body, told.headers())
