"""The topics of the contract as the log creates them."""

from typing import Final

from safevideo_common.events.topics import PARTITIONS, RETENTION_DAYS
from safevideo_common.messaging.port import Topic

_DAY_MS: Final = 24 * 60 * 60 * 1000


def all_topics(partitions: int = PARTITIONS) -> tuple[Topic, ...]:
    """Every topic that the services write to or read from."""
    return tuple(Topic(name, partitions, days * _DAY_MS) for name, days in RETENTION_DAYS.items())
