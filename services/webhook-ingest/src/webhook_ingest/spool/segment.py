"""A file of records: appended at its end, read in order, removed when all its events are delivered.

Only the writer's thread uses it.
"""

import os
from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from safevideo_common.broker.types import Message, TopicPartition
from webhook_ingest.spool import corrupt
from webhook_ingest.spool.directory import SUFFIX, SpoolDirectory, sync_directory
from webhook_ingest.spool.format import CorruptBytes, SpooledEvent, TornRecord, ValidRecord, encode, record_at, scan

READ_BYTES: Final = 2 * 1024 * 1024
"""Bytes of one read; more than the longest record."""

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
"""Never an existing file: it may be a sealed segment that could not be removed, and it will be removed later."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredEvent:
    """An event that was read from a segment. Equal only to itself: numbers of two directories may be the same."""

    segment: "Segment"
    start: int
    event: SpooledEvent


@dataclass(frozen=True, slots=True)
class CorruptRange:
    """A part of a segment without a readable event."""

    path: Path
    start: int
    size: int
    is_damage: bool
    """True if there may have been events; False if a crash cut off a record that was never acknowledged."""


class SpoolBatch(NamedTuple):
    """Events in their order, and the corrupt ranges between them."""

    events: Sequence[StoredEvent]
    corrupt: Sequence[CorruptRange]


class Segment:
    """A file with its durable end, its read position, and the records that were read and not delivered.

    A deferred record waits for its partition on disk. Eight bytes of memory say where it is.
    """

    __slots__ = ("_deferred", "_descriptor", "_is_sealed", "_must_survive", "_read_to", "_undelivered", "directory",
                 "end", "is_adopted", "path")  # fmt: skip

    def __init__(self, directory: SpoolDirectory, path: Path, descriptor: int, *, adopted: bool) -> None:
        self.directory = directory
        self.path = path
        self.is_adopted = adopted
        self.end = os.fstat(descriptor).st_size
        """Every byte before this one is durable."""
        self._read_to = 0
        self._undelivered: dict[int, None] = {}
        """Start of each record that was read and not delivered, in order."""
        self._deferred: dict[TopicPartition, array[int]] = {}
        """Start of each record that waits for a partition, in order."""
        self._must_survive = False
        """Part of the file is damaged and could not be copied, so the file is moved instead of deleted."""
        self._descriptor = descriptor
        self._is_sealed = adopted

    @classmethod
    def create(cls, directory: SpoolDirectory, first_number: int) -> "Segment":
        """Create a file for records from `first_number` on. Its name is durable. Raises `OSError`."""
        path = directory.path / f"{first_number:020d}{SUFFIX}"
        descriptor = os.open(path, _CREATE, 0o600)
        try:
            sync_directory(directory.path)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
        return cls(directory, path, descriptor, adopted=False)

    @classmethod
    def adopt(cls, directory: SpoolDirectory, path: Path) -> "Segment":
        """Open the file of a dead process, for reading only. Raises `OSError`."""
        segment = cls(directory, path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), adopted=True)
        name, offset = directory.load_position()
        if name == path.name:
            segment._read_to = min(offset, segment.end)
        return segment

    def has_unread(self) -> bool:
        """Return True if there are bytes after the read position."""
        return self._read_to < self.end

    @property
    def delivered_to(self) -> int:
        """Every byte before this one is delivered or saved as corrupt."""
        first = next(iter(self._undelivered), self._read_to)
        return min((first, *(starts[0] for starts in self._deferred.values())))

    @property
    def is_delivered(self) -> bool:
        """True if nothing in the file awaits delivery."""
        return self.delivered_to == self.end

    def accepts(self, max_bytes: int) -> bool:
        """Return True if records may be appended to a file that has less than `max_bytes`."""
        return not self._is_sealed and self.end < max_bytes

    def append(self, data: bytes) -> None:
        """Return when `data` is on disk. Raises `OSError`; then the file is as before, or accepts no more."""
        try:
            self._write(data)
        except OSError:
            # If this fails too, the bytes lie after `end`. A later process may deliver them, although their sender got
            # an error; the sender's retry has the same id.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.end)
            raise
        self.end += len(data)

    def read_batch(self, limit: int) -> SpoolBatch:
        """Return up to `limit` events after the read position, and save damaged bytes. Raises `OSError`."""
        batch = self._scan(self._read(READ_BYTES), limit)
        if batch.events or batch.corrupt:
            return batch
        return self._scan(self._read(self.end), limit)  # no complete record in one read: damage that is longer

    def count_by_key(self) -> Mapping[bytes, int]:
        """Return the number of unread events of each key. Raises `OSError`."""
        pieces = scan(self._read(self.end))
        return Counter(piece.event.message.key for piece in pieces if isinstance(piece, ValidRecord))

    def mark_delivered(self, stored: StoredEvent) -> None:
        """Record that the event needs no further delivery."""
        if stored.start in self._undelivered:
            del self._undelivered[stored.start]
            return
        for partition, starts in self._deferred.items():
            position = bisect_left(starts, stored.start)
            if position < len(starts) and starts[position] == stored.start:
                del starts[position]
                if not starts:
                    del self._deferred[partition]
                return

    def defer(self, stored: StoredEvent, partition: TopicPartition) -> None:
        """Leave the event on disk until `partition` takes messages; it may have waited for another one before."""
        self.mark_delivered(stored)
        insort(self._deferred.setdefault(partition, array("Q")), stored.start)

    def read_deferred(self, partition: TopicPartition, limit: int) -> SpoolBatch:
        """Return up to `limit` events that wait for `partition`, in order; they go on waiting. Raises `OSError`.

        One that has become unreadable is saved as damage and waits no more.
        """
        events: list[StoredEvent] = []
        damaged: list[CorruptRange] = []
        data, base = b"", 0
        for start in list(self._deferred.get(partition, ())[:limit]):
            if (record := record_at(data, start - base)) is None:
                data, base = self._read_at(start, READ_BYTES), start
                record = record_at(data, 0)
            if record is None:
                self._save_corrupt(start, data)
                self.mark_delivered(StoredEvent(self, start, SpooledEvent(0, 0, Message("", b"", b""))))
                damaged.append(CorruptRange(self.path, start, len(data), is_damage=True))
            else:
                events.append(StoredEvent(self, start, record.event))
        return SpoolBatch(events, damaged)

    def save_rejected(self, stored: StoredEvent) -> None:
        """Copy an event that Kafka will never accept to the `corrupt` directory."""
        self._save_corrupt(stored.start, encode(stored.event))

    def remove(self) -> bool:
        """Delete the file, or move it to `corrupt` if bytes of it were not copied. Return False if that fails now."""
        try:
            if self._must_survive:
                self.path.rename(corrupt.path_for(self._root, f"{self.directory.path.name}-{self.path.name}"))
            else:
                self.path.unlink(missing_ok=True)
        except OSError:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    @property
    def _root(self) -> Path:
        return self.directory.path.parent

    def _write(self, data: bytes) -> None:
        rest, position = memoryview(data), self.end
        while rest:
            written = os.pwrite(self._descriptor, rest, position)
            rest, position = rest[written:], position + written
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            self._is_sealed = True  # from here on the page cache and the disk may differ
            raise

    def _read(self, max_bytes: int) -> bytes:
        return self._read_at(self._read_to, max_bytes)

    def _read_at(self, start: int, max_bytes: int) -> bytes:
        parts, position, end = [], start, min(self.end, start + max_bytes)
        while position < end and (part := os.pread(self._descriptor, end - position, position)):
            parts.append(part)
            position += len(part)
        return b"".join(parts)

    def _scan(self, data: bytes, limit: int) -> SpoolBatch:
        """Return the records of `data`, which begins at the read position, and advance that position."""
        base = self._read_to
        events: list[StoredEvent] = []
        corrupt_ranges: list[CorruptRange] = []
        for piece in scan(data):
            if isinstance(piece, ValidRecord):
                events.append(StoredEvent(self, base + piece.start, piece.event))
                self._undelivered[base + piece.start] = None
            elif piece.end == len(data) and base + len(data) < self.end:
                break  # the bytes that follow may complete it
            else:
                corrupt_ranges.append(self._corrupt_range(base, piece, data))
            self._read_to = base + piece.end
            if len(events) >= limit:
                break
        return SpoolBatch(events, corrupt_ranges)

    def _corrupt_range(self, base: int, piece: CorruptBytes | TornRecord, data: bytes) -> CorruptRange:
        # Records of this process were complete when they were fsynced: no crash can have cut them off.
        is_damage = isinstance(piece, CorruptBytes) or not self.is_adopted
        if is_damage:
            self._save_corrupt(base + piece.start, data[piece.start : piece.end])
        return CorruptRange(self.path, base + piece.start, piece.end - piece.start, is_damage)

    def _save_corrupt(self, start: int, data: bytes) -> None:
        try:
            corrupt.write(self._root, f"{self.directory.path.name}-{self.path.stem}-{start}", data)
        except OSError:
            self._must_survive = True
