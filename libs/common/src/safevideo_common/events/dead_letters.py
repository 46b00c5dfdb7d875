"""Dead letters: `<group>.dlq.v1`. A dead letter is the original record with these headers added."""

import msgspec


class DeadLetterHeaders(msgspec.Struct, frozen=True):
    """The origin, the reason (a stable code, a colon, a sentence without values) and the number of attempts."""

    dlq_group: str
    dlq_topic: str
    dlq_partition: int
    dlq_offset: int
    dlq_reason: str
    dlq_tries: int
    dlq_cut: str = ""
    """What was too large to copy: `key`, `headers`, `value`, with commas between them."""
