"""The topics of the contract: as the log creates them, and what is wrong with those that others have made."""

from collections.abc import Iterator
from typing import NamedTuple

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import MAX_RECORD_BYTES, Topic, TopicState
from safevideo_common.events.topics import DAY_MS, RETENTION_DAYS, all_topics


class TopicIssue(NamedTuple):
    """What is wrong with a topic, and the setting of Kafka that mends it."""

    sentence: str
    setting: str
    value: str


class TopicCheck(NamedTuple):
    """A topic of the contract and what there is of it: None when it does not exist."""

    topic: Topic
    state: TopicState | None

    def faults(self) -> list[TopicIssue]:
        """What costs events. The number of partitions does not: it bounds how many workers share the load."""
        return [] if self.state is None else list(_issues(self.topic, self.state))


async def check_topics(event_log: Broker) -> list[TopicCheck]:
    """Every one of them. Raises `LogUnavailable`."""
    states = {state.name: state for state in await event_log.topic_states(RETENTION_DAYS)}
    return [TopicCheck(topic, states.get(topic.name)) for topic in all_topics()]


def _issues(topic: Topic, state: TopicState) -> Iterator[TopicIssue]:
    if state.retention_ms is not None and state.retention_ms < topic.retention_ms:
        kept = f"records are kept for {state.retention_ms / DAY_MS:.3g} days, not {topic.retention_ms // DAY_MS}"
        yield TopicIssue(kept, "retention.ms", str(topic.retention_ms))
    if state.max_record_bytes < MAX_RECORD_BYTES:
        yield TopicIssue("large records are refused", "max.message.bytes", str(MAX_RECORD_BYTES))
    if state.is_compacted:
        yield TopicIssue("older records of a performer are deleted", "cleanup.policy", "delete")
