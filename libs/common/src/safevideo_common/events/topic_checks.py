"""Checks of the topics of the broker: settings that lose events, or that let an event be applied twice.

`safevideo topics status` shows it, and every service that publishes or consumes logs it when it starts.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import MAX_RECORD_BYTES, Topic, TopicState
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.events.topics import (
    CONSUMED,
    DAY_MS,
    INBOX_DAYS,
    RETENTION_DAYS,
    SEGMENT_DAYS,
    all_topics,
)
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

DURABLE_COPIES: Final = 2
CHECK_INTERVAL: Final = 3600.0
BACKOFF: Final = Backoff(initial=5.0, maximum=300.0)

_RECEIVED: Final = frozenset(topic for topics in CONSUMED.values() for topic in topics)


class TopicIssue(NamedTuple):
    """A setting of a topic that loses events, and the value that fixes it."""

    sentence: str
    setting: str
    value: str
    is_warning: bool = False
    """True if a cluster of one broker cannot do better."""


class TopicCheck(NamedTuple):
    """A topic of the contract and its state in the broker; `None` when it does not exist."""

    topic: Topic
    state: TopicState | None
    inbox_days: int = INBOX_DAYS

    def issues(self) -> list[TopicIssue]:
        """Return what loses events. The number of partitions does not: it bounds how many workers share the load."""
        if self.state is None:
            return []
        return [*_retention(self.topic, self.state, self.inbox_days), *_records(self.state), *_copies(self.state)]


async def check_topics(
    broker: Broker, names: Collection[str] = RETENTION_DAYS, inbox_days: int = INBOX_DAYS
) -> list[TopicCheck]:
    """Return the check of every topic in `names`. Raise `BrokerUnavailable`."""
    states = {state.name: state for state in await broker.topic_states(names)}
    return [TopicCheck(topic, states.get(topic.name), inbox_days) for topic in all_topics() if topic.name in names]


async def monitor_topics(
    broker: Broker, names: Sequence[str], logger: FilteringBoundLogger, inbox_days: int = INBOX_DAYS
) -> None:
    """Log a warning for each issue, at the start and once an hour, until cancelled."""
    failures = 0
    while True:
        try:
            checks = await check_topics(broker, names, inbox_days)
        except BrokerUnavailable:
            failures += 1
            await asyncio.sleep(BACKOFF.delay(failures))
            continue
        failures = 0
        for check in checks:
            for issue in check.issues():
                logger.warning(
                    "Topic setting is unsafe",
                    code="TOPIC_UNSAFE",
                    topic=check.topic.name,
                    reason=issue.sentence,
                    setting=issue.setting,
                )
        await asyncio.sleep(CHECK_INTERVAL)


def _retention(topic: Topic, state: TopicState, inbox_days: int) -> Iterator[TopicIssue]:
    retention_ms = state.retention_ms
    if retention_ms is not None and retention_ms < topic.retention_ms:
        sentence = f"records are kept for {retention_ms / DAY_MS:.3g} days, not {topic.retention_ms // DAY_MS}"
        yield TopicIssue(sentence, "retention.ms", str(topic.retention_ms))
    if topic.name in _RECEIVED and (retention_ms is None or retention_ms > (inbox_days - SEGMENT_DAYS) * DAY_MS):
        time = "for ever" if retention_ms is None else f"for {retention_ms / DAY_MS:.3g} days"
        sentence = (
            f"records are kept {time}, and the inbox forgets them after {inbox_days}: a replay applies them again"
        )
        yield TopicIssue(sentence, "retention.ms", str(topic.retention_ms))


def _records(state: TopicState) -> Iterator[TopicIssue]:
    if state.max_record_bytes < MAX_RECORD_BYTES:
        yield TopicIssue("large records are refused", "max.message.bytes", str(MAX_RECORD_BYTES))
    if state.keeps_compression:
        sentence = "another producer may compress records so that no worker reads them"
        yield TopicIssue(sentence, "compression.type", "uncompressed")
    if state.is_compacted:
        yield TopicIssue("older records of a performer are deleted", "cleanup.policy", "delete")


def _copies(state: TopicState) -> Iterator[TopicIssue]:
    is_alone = state.brokers < DURABLE_COPIES
    if state.replicas < DURABLE_COPIES:
        yield TopicIssue("records are on one disk only", "replicas", "3", is_alone)
    if state.min_in_sync_replicas < DURABLE_COPIES:
        yield TopicIssue("a message on one disk is acknowledged", "min.insync.replicas", "2", is_alone)
    if state.allows_unclean_election:
        sentence = "a replica without all acknowledged records may lead"
        yield TopicIssue(sentence, "unclean.leader.election.enable", "false")
