"""The topics of the contract: as the log creates them, and what is wrong with those that others have made."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from safevideo_common.events.topics import PARTITIONS, RETENTION_DAYS
from safevideo_common.messaging.port import MAX_RECORD_BYTES, EventLog, Topic, TopicState

_DAY_MS: Final = 24 * 60 * 60 * 1000


class Fault(NamedTuple):
    """What is wrong with a topic, and the setting of Kafka that mends it."""

    sentence: str
    setting: str
    value: str


class Found(NamedTuple):
    """A topic of the contract and what there is of it: None when it does not exist."""

    topic: Topic
    state: TopicState | None

    def faults(self) -> list[Fault]:
        """What costs events. The number of partitions does not: it bounds how many workers share the load."""
        return [] if self.state is None else list(_faults(self.topic, self.state))


def all_topics(partitions: int = PARTITIONS) -> tuple[Topic, ...]:
    """Every topic that the services write to or read from."""
    return tuple(Topic(name, partitions, days * _DAY_MS) for name, days in RETENTION_DAYS.items())


async def look_at_topics(event_log: EventLog) -> list[Found]:
    """Every one of them. Raises `LogUnavailable`."""
    states = {state.name: state for state in await event_log.topic_states(RETENTION_DAYS)}
    return [Found(topic, states.get(topic.name)) for topic in all_topics()]


def _faults(topic: Topic, state: TopicState) -> Iterator[Fault]:
    if state.retention_ms is not None and state.retention_ms < topic.retention_ms:
        kept = f"records are kept for {state.retention_ms / _DAY_MS:.3g} days, not {topic.retention_ms // _DAY_MS}"
        yield Fault(kept, "retention.ms", str(topic.retention_ms))
    if state.max_record_bytes < MAX_RECORD_BYTES:
        yield Fault("large records are refused", "max.message.bytes", str(MAX_RECORD_BYTES))
    if state.is_compacted:
        yield Fault("older records of a performer are deleted", "cleanup.policy", "delete")
