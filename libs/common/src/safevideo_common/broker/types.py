"""Values of the message broker: topics, partitions, messages and records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_VALUE_BYTES: Final = 1024 * 1024
"""The largest value that can be published: the largest webhook that is taken."""


MAX_RECORD_BYTES: Final = 2 * MAX_VALUE_BYTES
"""A value of the largest size with its key, headers and framing: a topic has to take as much."""


Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One ordered sequence of records."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Topic:
    """What to create: `partitions` ordered sequences whose records are kept for `retention_ms`."""

    name: str
    partitions: int
    retention_ms: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the log has it."""

    name: str
    partitions: int
    replicas: int
    """Copies of each record, where the partition with the fewest has them."""
    retention_ms: int | None
    """For how long records are kept; None for ever."""
    max_record_bytes: int
    """The largest record that it takes, key, headers and framing included."""
    is_compacted: bool
    """Whether of each key only the latest record is sure to be kept."""


class Message(NamedTuple):
    """What is written. Messages of one `key` keep their order; `value` reaches the reader byte for byte."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()


class Record(NamedTuple):
    """What is read. Offsets of a partition start at 0 and rise by one for each message of ours."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Unix milliseconds at which the message was published."""
    key: bytes
    value: bytes
    headers: Headers


def next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    """What to commit once all of `records` are done: per partition the offset after the last one."""
    return {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
