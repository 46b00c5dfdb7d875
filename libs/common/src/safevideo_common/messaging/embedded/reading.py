"""What is read from the file, on the reader thread."""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from safevideo_common.messaging.embedded.schema import offset_of, record_id
from safevideo_common.messaging.port import READ_BYTES, Headers, Record, TopicPartition

encode_headers: Final = msgspec.msgpack.Encoder().encode
_decode_headers: Final = msgspec.msgpack.Decoder(Headers).decode


class Span(NamedTuple):
    """A range of offsets of one partition, the end excluded."""

    partition: TopicPartition
    partition_id: int
    start: int
    end: int


class Stored(NamedTuple):
    """What the file knows of a partition."""

    id: int
    partition: TopicPartition
    start: int
    """Offset of the oldest record that is kept."""
    end: int
    retention_ms: int


def partitions(connection: sqlite3.Connection) -> list[Stored]:
    """All partitions of all topics."""
    rows = connection.execute(
        "SELECT id, topic, number, end_offset, retention_ms FROM partitions JOIN topics ON topics.name = topic"
        " ORDER BY topic, number"
    )
    return [
        Stored(key, TopicPartition(topic, number), first_offset(connection, key, end), end, retention_ms)
        for key, topic, number, end, retention_ms in rows
    ]


def committed(connection: sqlite3.Connection) -> Iterator[tuple[str, int, int]]:
    """Group, partition id, next offset."""
    return connection.execute("SELECT consumer_group, partition_id, next_offset FROM committed")


def records(connection: sqlite3.Connection, span: Span, limit: int) -> list[Record]:
    """The first records of `span`, at most `limit`, and no more once their values reach `READ_BYTES`."""
    topic, number = span.partition
    rows = connection.execute(
        "SELECT id, timestamp_ms, key, value, headers FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (record_id(span.partition_id, span.start), record_id(span.partition_id, span.end), limit),
    )
    found = []
    size = 0
    for rowid, timestamp_ms, key, value, headers in rows:
        found.append(Record(topic, number, offset_of(rowid), timestamp_ms, key, value, _decode_headers(headers)))
        if (size := size + len(value)) >= READ_BYTES:
            break
    return found


def records_of(connection: sqlite3.Connection, spans: Iterable[Span], limit: int) -> list[Record]:
    """The first records of several spans, one span after the other, at most `limit` together."""
    found: list[Record] = []
    for span in spans:
        if len(found) == limit:
            break
        found += records(connection, span, limit - len(found))
    return found


def first_offset(connection: sqlite3.Connection, partition_id: int, end: int) -> int:
    """The oldest offset that is kept, `end` when there is none."""
    bounds = (record_id(partition_id, 0), record_id(partition_id, end))
    (oldest,) = connection.execute("SELECT min(id) FROM records WHERE id >= ? AND id < ?", bounds).fetchone()
    return end if oldest is None else offset_of(oldest)


def offset_at(connection: sqlite3.Connection, span: Span, timestamp_ms: int) -> int:
    """The first offset of `span` whose record is of `timestamp_ms` or later, its end when there is none.

    By bisection: a partition has no gaps behind its oldest offset and the writer lets no timestamp step back.
    """
    offsets = range(span.start, span.end)
    at = bisect_left(offsets, timestamp_ms, key=lambda offset: _timestamp(connection, span.partition_id, offset))
    return span.start + at


def newest_timestamp(connection: sqlite3.Connection) -> int:
    """The latest timestamp in the file, 0 when there is none."""
    return max((_timestamp(connection, each.id, each.end - 1) for each in partitions(connection)), default=0)


def _timestamp(connection: sqlite3.Connection, partition_id: int, offset: int) -> int:
    rowid = record_id(partition_id, max(offset, 0))
    row = connection.execute("SELECT timestamp_ms FROM records WHERE id = ?", (rowid,)).fetchone()
    return int(row[0]) if row else 0
