"""What the writer thread does inside a transaction."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from safevideo_common.messaging.embedded.schema import record_id
from safevideo_common.messaging.port import Topic

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
