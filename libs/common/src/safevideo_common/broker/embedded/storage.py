"""The SQLite file of the embedded broker: tables, queries, and the lock that keeps other processes out.

Each function runs on the thread that has the connection. Functions that write run inside a transaction.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from safevideo_common.broker.port import READ_BYTES
from safevideo_common.broker.types import Headers, Record, Topic, TopicPartition

OFFSET_BITS: Final = 40
"""The rowid of a record is the id of its partition, then its offset: one B-tree in reading order, no second index."""

PAGE_BYTES: Final = 16_384
"""A record has about 1 kB. With the default page of 4 kB every third record would split a page."""

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

encode_headers: Final = msgspec.msgpack.Encoder().encode
_decode_headers: Final = msgspec.msgpack.Decoder(Headers).decode


def connect(path: Path) -> sqlite3.Connection:
    """Open the file. A commit returns after an fsync of the write-ahead log. Readers do not wait for the writer.

    Any thread may use the connection, one at a time. Transactions begin explicitly.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # an existing file keeps its own
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def create_tables(connection: sqlite3.Connection) -> None:
    """Create missing tables."""
    connection.executescript(_TABLES)


# Reading


class FetchRange(NamedTuple):
    """A range of offsets of one partition, without `end`."""

    partition: TopicPartition
    partition_id: int
    start: int
    end: int


class PartitionRow(NamedTuple):
    """A partition in the file."""

    id: int
    partition: TopicPartition
    start: int
    """The offset of the oldest record."""
    end: int
    retention_ms: int


def partitions(connection: sqlite3.Connection) -> list[PartitionRow]:
    """Return all partitions of all topics."""
    rows = connection.execute(
        "SELECT id, topic, number, end_offset, retention_ms FROM partitions JOIN topics ON topics.name = topic"
        " ORDER BY topic, number"
    )
    return [
        PartitionRow(key, TopicPartition(topic, number), _first_offset(connection, key, end), end, retention_ms)
        for key, topic, number, end, retention_ms in rows
    ]


def committed_offsets(connection: sqlite3.Connection) -> Iterator[tuple[str, int, int]]:
    """Return group, partition id and next offset of each commit."""
    return connection.execute("SELECT consumer_group, partition_id, next_offset FROM committed")


def read_ranges(connection: sqlite3.Connection, ranges: Iterable[FetchRange], limit: int) -> list[Record]:
    """Return the first records of the ranges, one range after the other; of each at most `READ_BYTES` of values."""
    found: list[Record] = []
    for each in ranges:
        if len(found) == limit:
            break
        found += read_range(connection, each, limit - len(found))
    return found


def read_range(connection: sqlite3.Connection, fetch: FetchRange, limit: int) -> list[Record]:
    """Return the first records of the range, at most `limit`. Stops after the values reach `READ_BYTES`."""
    topic, number = fetch.partition
    rows = connection.execute(
        "SELECT id, timestamp_ms, key, value, headers FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (_record_id(fetch.partition_id, fetch.start), _record_id(fetch.partition_id, fetch.end), limit),
    )
    found = []
    size = 0
    for rowid, timestamp_ms, key, value, headers in rows:
        found.append(Record(topic, number, _offset_of(rowid), timestamp_ms, key, value, _decode_headers(headers)))
        if (size := size + len(value)) >= READ_BYTES:
            break
    return found


def offset_for_time(connection: sqlite3.Connection, fetch: FetchRange, timestamp_ms: int) -> int:
    """Return the first offset of the range whose record is of `timestamp_ms` or later; its end if there is none.

    Bisection works because a partition has no gaps after its oldest offset and timestamps never decrease.
    """
    offsets = range(fetch.start, fetch.end)
    index = bisect_left(offsets, timestamp_ms, key=lambda offset: _timestamp(connection, fetch.partition_id, offset))
    return fetch.start + index


def newest_timestamp(connection: sqlite3.Connection) -> int:
    """Return the latest timestamp in the file, or 0."""
    return max((_timestamp(connection, each.id, each.end - 1) for each in partitions(connection)), default=0)


def _first_offset(connection: sqlite3.Connection, partition_id: int, end: int) -> int:
    bounds = (_record_id(partition_id, 0), _record_id(partition_id, end))
    (oldest,) = connection.execute("SELECT min(id) FROM records WHERE id >= ? AND id < ?", bounds).fetchone()
    return end if oldest is None else _offset_of(oldest)


def _timestamp(connection: sqlite3.Connection, partition_id: int, offset: int) -> int:
    rowid = _record_id(partition_id, max(offset, 0))
    row = connection.execute("SELECT timestamp_ms FROM records WHERE id = ?", (rowid,)).fetchone()
    return int(row[0]) if row else 0


def _record_id(partition_id: int, offset: int) -> int:
    return partition_id << OFFSET_BITS | offset


def _offset_of(rowid: int) -> int:
    return rowid & (1 << OFFSET_BITS) - 1


# Writing

_COLUMNS: Final = 5
_ROW: Final = "(?, ?, ?, ?, ?)"
_CHUNKS: Final = (128, 16, 1)
"""Rows per statement. Each statement releases the interpreter lock and has to win it back from the event loop."""

_INSERTS: Final = {rows: f"INSERT INTO records VALUES {', '.join([_ROW] * rows)}" for rows in _CHUNKS}  # noqa: S608


class Append(NamedTuple):
    """A record to write. It gets its offset inside the transaction."""

    partition_id: int
    key: bytes
    value: bytes
    headers: bytes

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return len(self.key) + len(self.value) + len(self.headers)


def append(
    connection: sqlite3.Connection, ends: Mapping[int, int], appends: Sequence[Append], timestamp_ms: int
) -> tuple[list[int], dict[int, int]]:
    """Write records after `ends` (end offset by partition id). Return their offsets, and the ends that changed."""
    new_ends: dict[int, int] = {}
    offsets: list[int] = []
    values: list[object] = []
    for partition_id, key, value, headers in appends:
        offset = new_ends[partition_id] if partition_id in new_ends else ends[partition_id]
        new_ends[partition_id] = offset + 1
        offsets.append(offset)
        values += (_record_id(partition_id, offset), timestamp_ms, key, value, headers)
    _insert(connection, values)
    connection.executemany("UPDATE partitions SET end_offset = ? WHERE id = ?", [(e, i) for i, e in new_ends.items()])
    return offsets, new_ends


def _insert(connection: sqlite3.Connection, values: list[object]) -> None:
    start = 0
    for rows, statement in _INSERTS.items():
        width = rows * _COLUMNS
        while len(values) - start >= width:
            connection.execute(statement, values[start : start + width])
            start += width


def create_topics(connection: sqlite3.Connection, topics: Sequence[Topic]) -> None:
    """Add missing topics."""
    for topic in topics:
        added = connection.execute("INSERT OR IGNORE INTO topics VALUES (?, ?)", (topic.name, topic.retention_ms))
        if added.rowcount:
            connection.executemany(
                "INSERT INTO partitions (topic, number) VALUES (?, ?)",
                [(topic.name, number) for number in range(topic.partitions)],
            )


def commit_offsets(connection: sqlite3.Connection, group: str, offsets: Mapping[int, int]) -> None:
    """Store the next offset of the group by partition id. Never moves backwards."""
    connection.executemany(
        "INSERT INTO committed VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET next_offset = max(next_offset, excluded.next_offset)",
        [(group, partition_id, offset) for partition_id, offset in offsets.items()],
    )


def delete_before(connection: sqlite3.Connection, partition_id: int, offset: int) -> None:
    """Delete the records of a partition before `offset`."""
    bounds = (_record_id(partition_id, 0), _record_id(partition_id, offset))
    connection.execute("DELETE FROM records WHERE id >= ? AND id < ?", bounds)
