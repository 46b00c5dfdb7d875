"""One event as it reached this group: the envelope, the body, and where in the log it stands."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from safevideo_common.domain.outcomes import Outcome, dead
from safevideo_common.events.envelope import Envelope, EnvelopeInvalid, parse_headers
from safevideo_common.messaging.port import Record, TopicPartition


class Delivery(NamedTuple):
    """What a handler decides on."""

    envelope: Envelope
    body: bytes
    topic: str
    partition: int
    offset: int
    received_at: datetime
    """When the door published it."""
    fault: Outcome | None = None
    """Set when the record is no event at all; the envelope is then made up from its place in the log."""
    record: Record | None = None
    """As it was read; of an event that waited in the inbox only what this delivery says is left."""


def delivery_of(record: Record) -> Delivery:
    """The delivery that `record` carries. Never raises: a record without a readable envelope has a `fault`."""
    received_at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    try:
        envelope, fault = parse_headers(record.headers), None
    except EnvelopeInvalid as error:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        envelope = Envelope(id=place, type="unreadable", time=received_at)
        fault = dead("ENVELOPE_INVALID", str(error))
    return Delivery(envelope, record.value, record.topic, record.partition, record.offset, received_at, fault, record)


def next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    """What to commit once all of `records` are done: per partition the offset after the last one."""
    return {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
