"""The topics of the contract, §8, and the only mapping of event types to topics."""

from typing import Final

from safevideo_common.broker.types import Topic
from safevideo_common.events import kyc, performer

KYC: Final = "sharegram.kyc.v1"
PERFORMER: Final = "sharegram.performer.v1"
OTHER: Final = "sharegram.other.v1"
COMMANDS: Final = "integration.commands.v1"
CHANGES: Final = "integration.events.v1"

KYC_WORKER: Final = "kyc-worker"
SYNC_WORKER: Final = "sync-worker"
"""The consumer groups."""

CONSUMED: Final = {KYC_WORKER: (KYC,), SYNC_WORKER: (PERFORMER, OTHER)}
"""The topics that each group reads: `OTHER` too, so that an event of an unknown type has its row in the inbox, where an
operator finds it."""


def dead_letters_of(group: str) -> str:
    """Return the topic with a copy of each event that `group` dead-lettered."""
    return f"{group}.dlq.v1"


DEAD_LETTERS: Final = tuple(map(dead_letters_of, (KYC_WORKER, SYNC_WORKER)))

PARTITIONS: Final = 12
RETENTION_DAYS: Final = {KYC: 30, PERFORMER: 30, OTHER: 30, COMMANDS: 7, CHANGES: 7} | dict.fromkeys(DEAD_LETTERS, 30)
"""Events from Sharegram are kept for 30 days, since replay reads them, and so are dead letters."""

TOPIC_BY_TYPE: Final = dict.fromkeys(kyc.TYPES, KYC) | dict.fromkeys(performer.TYPES, PERFORMER)
"""Add a new webhook type to its module's TYPES. A type that is not listed goes to `OTHER`."""


def topic_of(event_type: str) -> str:
    """Return the topic of events of this type."""
    return TOPIC_BY_TYPE.get(event_type, OTHER)


DAY_MS: Final = 24 * 60 * 60 * 1000


def all_topics(partitions: int = PARTITIONS) -> tuple[Topic, ...]:
    """Return every topic that the services write to or read from."""
    return tuple(Topic(name, partitions, days * DAY_MS) for name, days in RETENTION_DAYS.items())


TOPIC_RETENTION_DAYS: Final = max(RETENTION_DAYS[topic] for topic in (KYC, PERFORMER, OTHER))
"""Kafka keeps received events for this long, and up to a week longer: it deletes a segment as a whole."""

SEGMENT_DAYS: Final = 7
INBOX_DAYS: Final = TOPIC_RETENTION_DAYS + SEGMENT_DAYS + 1
"""The default of `INBOX_RETENTION_DAYS`."""
