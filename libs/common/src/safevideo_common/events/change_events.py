"""Change events for other systems: `integration.events.v1`.

Each event that a worker applies creates one change event with the id of its cause. Source and id together are unique,
so a consumer recognises a change that is published twice. Key and subject are Sharegram's performer id.

A repeat may come after newer changes. So each change has a `sequence`, which rises with each change of its performer or
KYC request. A consumer that skips every change whose `sequence` is not higher than the last one ends with our rows.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Self

import msgspec

from safevideo_common.broker.types import Message
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.events.envelope import Envelope, ExternalId
from safevideo_common.events.performer import Profile, Status
from safevideo_common.events.topics import CHANGES, KYC_WORKER, SYNC_WORKER
from safevideo_common.observability.tracing import current_traceparent

PERFORMER_CHANGED: Final = "integration.performer.changed"
KYC_CHANGED: Final = "integration.kyc.changed"
KYC_EXPIRING: Final = "integration.kyc.expiring"


def source_of(group: str) -> str:
    """Return the `ce_source` of what a consumer group publishes."""
    return f"/safevideo/{group}"


SOURCES: Final = {
    PERFORMER_CHANGED: source_of(SYNC_WORKER),
    KYC_CHANGED: source_of(KYC_WORKER),
    KYC_EXPIRING: source_of(KYC_WORKER),
}
"""Each type of change has one publisher."""


class Cause(msgspec.Struct, frozen=True, gc=False):
    """The cause of a change: the id and the type of a webhook, of a sync, or of a person's decision."""

    id: str
    type: str

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        """Return the cause that has this envelope."""
        return cls(envelope.id, envelope.type)


class ChangedFields(Profile, frozen=True, rename="camel", omit_defaults=True):
    """The fields that a change of a performer may name. Only the changed ones are present; null is an empty value."""

    status: Status | msgspec.UnsetType = msgspec.UNSET
    deleted_at: datetime | msgspec.UnsetType | None = msgspec.UNSET


class PerformerChange(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The fields of a performer that an event changed, by their names on the wire, with their new values.

    The change with the highest `sequence` that names a field has its value.
    `version` and `at` are Sharegram's, of the event `causedBy`. They may be lower than those of an earlier change of
    other fields.
    """

    performer_id: ExternalId
    changes: Mapping[str, object]
    """`ChangedFields`, as they are encoded."""
    sequence: Annotated[int, msgspec.Meta(description="Rises with each change of this performer.")]
    version: int | None
    at: datetime
    caused_by: Cause


class KycChange(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A result that was applied, or a decision that was made. `status` may be the same as before.

    `verificationId` is null if the provider has not begun. `version` is null for a decision.
    """

    performer_id: ExternalId
    kyc_request_id: Annotated[int, msgspec.Meta(description="Our id of the KYC request.")]
    verification_id: ExternalId | None
    status: KycStatus
    previous_status: KycStatus
    risk_score: float | None
    sequence: Annotated[int, msgspec.Meta(description="Rises with each change of this request.")]
    version: int | None
    at: datetime
    caused_by: Cause


class KycExpiryWarning(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A verified request will expire: 30 days before, and 7 days before. The performer may renew it now."""

    performer_id: ExternalId
    kyc_request_id: Annotated[int, msgspec.Meta(description="Our id of the KYC request.")]
    expires_at: datetime
    days_left: Annotated[int, msgspec.Meta(description="Whole days, rounded up.")]
    sequence: Annotated[int, msgspec.Meta(description="Rises with each change of this request.")]
    at: datetime


def next_sequence(last: int, now: datetime) -> int:
    """Return the sequence of a change after one with the sequence `last`.

    It begins at the unix microseconds of `now`. So it rises too after a row was deleted, or restored from a backup.
    """
    return max(last + 1, int(now.timestamp() * 1_000_000))


_encode: Final = msgspec.json.Encoder().encode


def performer_changed(cause: Envelope, change: PerformerChange) -> Message:
    """Return the message that publishes `change`."""
    return _message(PERFORMER_CHANGED, cause, change.performer_id, _encode(change))


def kyc_changed(cause: Envelope, change: KycChange) -> Message:
    """Return the message that publishes `change`."""
    return _message(KYC_CHANGED, cause, change.performer_id, _encode(change))


def kyc_expiring(cause: Envelope, warning: KycExpiryWarning) -> Message:
    """Return the message that publishes `warning`."""
    return _message(KYC_EXPIRING, cause, warning.performer_id, _encode(warning))


def _message(change_type: str, cause: Envelope, performer_id: str, body: bytes) -> Message:
    envelope = Envelope(
        cause.id,
        change_type,
        cause.time,
        performer_id,
        cause.request_id,
        cause.traceparent or current_traceparent(),
        SOURCES[change_type],
    )
    return Message(CHANGES, performer_id.encode(), body, envelope.headers())
