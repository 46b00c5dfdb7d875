"""Copies of dead events: `<group>.dlq.v1`. Key, value and headers are those of the record, these headers are added."""

import msgspec


class DeadLetterHeaders(msgspec.Struct, frozen=True):
    """Whence, why, and after how many tries. `dlq_reason` is a stable code, a colon, a sentence without values."""

    dlq_group: str
    dlq_topic: str
    dlq_partition: int
    dlq_offset: int
    dlq_reason: str
    dlq_tries: int
