"""Records as aiokafka gives them, and how large they may be."""

from operator import itemgetter
from typing import Final

from aiokafka import ConsumerRecord

from safevideo_common.messaging.port import MAX_VALUE_BYTES, Record

FETCH_BYTES: Final = 16 * MAX_VALUE_BYTES
"""What one fetch holds in memory at most, all partitions of a broker together."""

_value: Final = itemgetter(1)


def record_of(found: ConsumerRecord) -> Record:
    """The same in our words. What other clients left out is empty."""
    headers = tuple(found.headers)
    if not all(map(_value, headers)):
        headers = tuple((name, value or b"") for name, value in headers)
    return Record(
        found.topic,
        found.partition,
        found.offset,
        found.timestamp,
        found.key or b"",
        found.value or b"",
        headers,
    )
