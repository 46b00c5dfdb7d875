"""The cursor of the performer list: an opaque word for a place in the order of (updatedAt, id)."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

import orjson

from sharegram_simulator.clock import rfc3339
from sharegram_simulator.errors import Invalid
from sharegram_simulator.performers import Place


def write_cursor(place: Place) -> str:
    """The cursor that goes on behind this place."""
    moment, performer_id = place
    return urlsafe_b64encode(orjson.dumps([rfc3339(moment), performer_id])).rstrip(b"=").decode()


def read_cursor(cursor: str) -> Place:
    """The place behind which to go on. Raises `Invalid`."""
    try:
        moment, performer_id = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return datetime.fromisoformat(moment).astimezone(UTC), str(performer_id)
    except (ValueError, TypeError, OverflowError):
        raise Invalid("The cursor is not one of ours.", details={"cursor": "malformed"}) from None
