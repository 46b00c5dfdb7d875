"""The parser of performer events."""

from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from safevideo_common.domain.outcomes import IGNORED, Outcome, dead
from safevideo_common.domain.performers import PerformerPatch
from safevideo_common.events import performer
from safevideo_common.events.envelope import Envelope, write_version_of
from safevideo_common.events.schema_errors import SCHEMA_MISMATCH, field_and_reason
from safevideo_common.inbox.handler import Delivery


class PerformerEvent(NamedTuple):
    """A patch, its performer, and the envelope of the event that caused it."""

    sharegram_id: str
    patch: PerformerPatch
    cause: Envelope


class _Webhook(msgspec.Struct, frozen=True):
    data: performer.PerformerData


_decoder: Final = msgspec.json.Decoder(_Webhook)
_PROFILE_FIELDS: Final = performer.Profile.__struct_fields__
_profile_values: Final = attrgetter(*_PROFILE_FIELDS)


def parse_performer(delivery: Delivery) -> PerformerEvent | Outcome:
    """Return the event in the body, `ignored` for an unknown type, or `dead` for an invalid body."""
    if delivery.envelope.type not in performer.TYPES:
        return IGNORED
    try:
        data = _decoder.decode(delivery.body).data
    except SCHEMA_MISMATCH as error:
        return dead("BODY_INVALID", ": ".join(field_and_reason(error)))
    write_version = write_version_of(data.version, delivery.envelope.time, delivery.offset)
    return PerformerEvent(data.performer_id, PerformerPatch(_named_fields(data), write_version), delivery.envelope)


def _named_fields(data: performer.PerformerData) -> dict[str, object]:
    fields: dict[str, object] = {}
    for patch in (data.profile, data.changes):
        if patch is not None:
            named = zip(_PROFILE_FIELDS, _profile_values(patch), strict=True)
            fields |= {name: value for name, value in named if value is not msgspec.UNSET}
    if data.status is not None:
        fields["status"] = data.status
    return fields
