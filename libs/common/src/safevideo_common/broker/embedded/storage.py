"""The file of the embedded log: its tables and how a connection to it is set up."""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from safevideo_common.broker.port import READ_BYTES
from safevideo_common.broker.types import Headers, Record, Topic, TopicPartition

OFFSET_BITS: Final = 40
"""A record's rowid is its partition's id, then its offset: one B-tree in reading order and no second index."""

PAGE_BYTES: Final = 16_384
"""Records have about 1 kB: with SQLite's own 4 kB every third one would split a page."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, retention_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partitions (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL, end_offset INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, number)
);
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS committed (
    consumer_group TEXT NOT NULL, partition_id INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, partition_id)
) WITHOUT ROWID;
"""


def record_id(partition_id: int, offset: int) -> int:
    """The rowid of a record."""
    return partition_id << OFFSET_BITS | offset


def offset_of(rowid: int) -> int:
    """The offset in a record's rowid."""
    return rowid & (1 << OFFSET_BITS) - 1


def connect(path: Path) -> sqlite3.Connection:
    """Open the file. A commit returns after an fsync of the write-ahead log; readers never wait for the writer.

    The connection may be used by any thread, but by one at a time. Transactions are begun by hand.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; an old one keeps its own
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def create_tables(connection: sqlite3.Connection) -> None:
    """Make what is missing."""
    connection.executescript(_TABLES)


# What is read from the file, on the reader thread.


encode_headers: Final = msgspec.msgpack.Encoder().encode
_decode_headers: Final = msgspec.msgpack.Decoder(Headers).decode


class FetchRange(NamedTuple):
    """A range of offsets of one partition, the end excluded."""

    partition: TopicPartition
    partition_id: int
    start: int
    end: int


class PartitionRow(NamedTuple):
    """What the file knows of a partition."""

    id: int
    partition: TopicPartition
    start: int
    """Offset of the oldest record that is kept."""
    end: int
    retention_ms: int


def partitions(connection: sqlite3.Connection) -> list[PartitionRow]:
    """All partitions of all topics."""
    rows = connection.execute(
        "SELECT id, topic, number, end_offset, retention_ms FROM partitions JOIN topics ON topics.name = topic"
        " ORDER BY topic, number"
    )
    return [
        PartitionRow(key, TopicPartition(topic, number), first_offset(connection, key, end), end, retention_ms)
        for key, topic, number, end, retention_ms in rows
    ]


def committed(connection: sqlite3.Connection) -> Iterator[tuple[str, int, int]]:
    """Group, partition id, next offset."""
    return connection.execute("SELECT consumer_group, partition_id, next_offset FROM committed")


def records(connection: sqlite3.Connection, span: FetchRange, limit: int) -> list[Record]:
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


def records_of(connection: sqlite3.Connection, spans: Iterable[FetchRange], limit: int) -> list[Record]:
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


def offset_at(connection: sqlite3.Connection, span: FetchRange, timestamp_ms: int) -> int:
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


# What the writer thread does inside a transaction.


_COLUMNS: Final = 5
_ROW: Final = "(?, ?, ?, ?, ?)"
_CHUNKS: Final = (128, 16, 1)
"""Rows of one statement. Each statement gives up the interpreter lock and has to win it back from the event loop."""

_INSERTS: Final = {rows: f"INSERT INTO records VALUES {', '.join([_ROW] * rows)}" for rows in _CHUNKS}  # noqa: S608


class Append(NamedTuple):
    """A record to be written; its offset is found when its turn has come."""

    partition_id: int
    key: bytes
    value: bytes
    headers: bytes

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory, about."""
        return len(self.key) + len(self.value) + len(self.headers)


def append(
    connection: sqlite3.Connection, ends: Mapping[int, int], appends: Sequence[Append], timestamp_ms: int
) -> tuple[list[int], dict[int, int]]:
    """Write records behind `ends` (partition id to end offset); give their offsets and the ends that moved."""
    moved: dict[int, int] = {}
    offsets: list[int] = []
    values: list[object] = []
    for partition_id, key, value, headers in appends:
        offset = moved[partition_id] if partition_id in moved else ends[partition_id]
        moved[partition_id] = offset + 1
        offsets.append(offset)
        values += (record_id(partition_id, offset), timestamp_ms, key, value, headers)
    _insert(connection, values)
    connection.executemany("UPDATE partitions SET end_offset = ? WHERE id = ?", [(e, i) for i, e in moved.items()])
    return offsets, moved


def _insert(connection: sqlite3.Connection, values: list[object]) -> None:
    start = 0
    for rows, statement in _INSERTS.items():
        width = rows * _COLUMNS
        while len(values) - start >= width:
            connection.execute(statement, values[start : start + width])
            start += width


def create_topics(connection: sqlite3.Connection, topics: Sequence[Topic]) -> None:
    """Add those that are missing."""
    for topic in topics:
        added = connection.execute("INSERT OR IGNORE INTO topics VALUES (?, ?)", (topic.name, topic.retention_ms))
        if added.rowcount:
            connection.executemany(
                "INSERT INTO partitions (topic, number) VALUES (?, ?)",
                [(topic.name, number) for number in range(topic.partitions)],
            )


def commit_offsets(connection: sqlite3.Connection, group: str, offsets: Mapping[int, int]) -> None:
    """Set the group's next offset by partition id, where that is a step forward."""
    connection.executemany(
        "INSERT INTO committed VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET next_offset = max(next_offset, excluded.next_offset)",
        [(group, partition_id, offset) for partition_id, offset in offsets.items()],
    )


def delete_before(connection: sqlite3.Connection, partition_id: int, offset: int) -> None:
    """Forget the records of a partition before `offset`."""
    bounds = (record_id(partition_id, 0), record_id(partition_id, offset))
    connection.execute("DELETE FROM records WHERE id >= ? AND id < ?", bounds)
