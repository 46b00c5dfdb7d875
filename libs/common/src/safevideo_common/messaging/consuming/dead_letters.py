"""The copy of a dead event for the topic `<group>.dlq.v1`: the record as it was, and where it came from."""

from collections.abc import Iterable
from typing import Final

from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.events.topics import dead_letters_of
from safevideo_common.messaging.consuming.deciding import Decided
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.port import Headers, Message

KEY_BYTES: Final = 1 << 15
"""Of a key of another program's that is longer, so much is copied: the copy must never be what fails."""


def dead_copies(group: str, decided: Iterable[Decided]) -> list[Message]:
    """Of those that died at their first try."""
    return [dead_copy(group, *each, tries=1) for each in decided if each.outcome.status is Status.DEAD]


def dead_copy(group: str, delivery: Delivery, outcome: Outcome, tries: int) -> Message:
    """Key, bytes and headers as they came, with headers that say whence, why and after how many tries.

    Of an event that had waited in the inbox the headers are those of its envelope.
    """
    record = delivery.record
    key = record.key if record else (delivery.envelope.subject or "").encode()
    headers = record.headers if record else delivery.envelope.headers()
    copied = headers + _origin(group, delivery, outcome, tries)
    return Message(dead_letters_of(group), key[:KEY_BYTES], delivery.body, copied)


def _origin(group: str, delivery: Delivery, outcome: Outcome, tries: int) -> Headers:
    return (
        ("dlq_group", group.encode()),
        ("dlq_topic", delivery.topic.encode()),
        ("dlq_partition", b"%d" % delivery.partition),
        ("dlq_offset", b"%d" % delivery.offset),
        ("dlq_reason", (outcome.reason or "").encode()),
        ("dlq_tries", b"%d" % tries),
    )
