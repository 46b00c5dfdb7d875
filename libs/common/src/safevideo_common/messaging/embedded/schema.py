"""The file of the embedded log: its tables and how a connection to it is set up."""

import sqlite3
from pathlib import Path
from typing import Final

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
