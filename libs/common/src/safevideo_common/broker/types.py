"""Values of the message broker: topics, partitions, messages and records.

The values that exist once per event are tuples: a frozen dataclass takes four times as long to make.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

MAX_VALUE_BYTES: Final = 1024 * 1024
"""The largest value of a message. It equals the largest webhook body."""


MAX_RECORD_BYTES: Final = 2 * MAX_VALUE_BYTES
"""The largest record with key, headers and framing. Each topic must accept it."""


_MAX_TIMESTAMP_MS: Final = 253_402_214_400_000
"""The last day of the year 9999, which is the last year of a `datetime` and of every database."""

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """An ordered sequence of records."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic to create: its number of partitions, and for how long it keeps records."""

    name: str
    partitions: int
    retention_ms: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """The state of a topic on the broker."""

    name: str
    partitions: int
    replicas: int
    """Copies of each record, in the partition with the fewest copies."""
    retention_ms: int | None
    """How long the topic keeps records. None means for ever."""
    max_record_bytes: int
    """The largest record that the topic accepts, with key, headers and framing."""
    is_compacted: bool
    """True if the topic may delete all but the latest record of each key."""
    min_in_sync_replicas: int
    """A message is acknowledged by at least as many replicas, or refused."""
    allows_unclean_election: bool
    """True if a replica that lacks acknowledged records may become the leader. They are lost then."""
    brokers: int
    """Brokers of the cluster. One alone has no other disk."""
    keeps_compression: bool = False
    """True if records are stored as other producers have compressed them, perhaps so that no worker can read them."""


class Message(NamedTuple):
    """A message to publish. Messages of one `key` keep their order; consumers get `value` byte for byte."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()


class Record(NamedTuple):
    """A published message. Offsets of a partition start at 0; each message of ours takes the next one."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Unix milliseconds at which the message was published."""
    key: bytes
    value: bytes
    headers: Headers
    unreadable: str = ""
    """The reason why `value` is a whole batch of another producer. It has the place of the batch's last record."""

    @property
    def published_at(self) -> datetime:
        """The time of `timestamp_ms`. Of another producer's number that is no time of ours, the nearest one."""
        return datetime.fromtimestamp(min(max(self.timestamp_ms, 0), _MAX_TIMESTAMP_MS) / 1000, UTC)


def next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    """Return the offsets to commit after `records`: for each partition the one after its last record."""
    return {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
