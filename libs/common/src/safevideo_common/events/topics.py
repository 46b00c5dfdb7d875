"""The topics of the contract, §8, and the one place that says which event type goes where."""

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
"""What each group reads: `OTHER` too, so that an event of a type that nobody knows has its row in the inbox, where an
operator finds it."""


def dead_letters_of(group: str) -> str:
    """The topic that has a copy of each event that is dead for `group`."""
    return f"{group}.dlq.v1"


DEAD_LETTERS: Final = tuple(map(dead_letters_of, (KYC_WORKER, SYNC_WORKER)))

PARTITIONS: Final = 12
RETENTION_DAYS: Final = {KYC: 30, PERFORMER: 30, OTHER: 30, COMMANDS: 7, CHANGES: 7} | dict.fromkeys(DEAD_LETTERS, 30)
"""What Sharegram sent is kept for 30 days, since replay reads it, and so are the copies of what is dead."""

TOPIC_BY_TYPE: Final = dict.fromkeys(kyc.TYPES, KYC) | dict.fromkeys(performer.TYPES, PERFORMER)
"""A new webhook type goes here, by way of its module's TYPES. What is not listed goes to `OTHER`."""


def topic_of(event_type: str) -> str:
    """The topic that events of this type are kept in."""
    return TOPIC_BY_TYPE.get(event_type, OTHER)


DAY_MS: Final = 24 * 60 * 60 * 1000


def all_topics(partitions: int = PARTITIONS) -> tuple[Topic, ...]:
    """Every topic that the services write to or read from."""
    return tuple(Topic(name, partitions, days * DAY_MS) for name, days in RETENTION_DAYS.items())


TOPIC_RETENTION_DAYS: Final = max(RETENTION_DAYS[topic] for topic in (KYC, PERFORMER, OTHER))
"""For so long the log keeps what was received, and up to a week longer: Kafka deletes a segment as a whole."""
