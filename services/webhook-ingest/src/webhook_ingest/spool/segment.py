"""One file of records. For the thread that has the files."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webhook_ingest.spool import corrupt
from webhook_ingest.spool.directory import SUFFIX, SpoolDirectory, sync_folder
from webhook_ingest.spool.format import DamagedBytes, SpooledEvent, TornRecord, ValidRecord, encode, walk

CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class Segment:
    """A file, how much of it is safe on disk, how much of that has been given out, and what of that is open."""

    __slots__ = ("_descriptor", "_is_sealed", "end", "folder", "is_adopted", "is_worth_keeping", "open_records", "path",
                 "read_to")  # fmt: skip

    def __init__(self, folder: SpoolDirectory, path: Path, descriptor: int, *, adopted: bool) -> None:
        self.folder = folder
        self.path = path
        self.is_adopted = adopted
        self.end = os.fstat(descriptor).st_size
        """Bytes that are safe."""
        self.read_to = 0
        """Bytes whose records have been given out."""
        self.open_records: dict[int, None] = {}
        """Where the records begin that were given out and are not delivered yet, in order."""
        self.is_worth_keeping = False
        """Part of it is damaged and could not be copied: it must not be deleted."""
        self._descriptor = descriptor
        self._is_sealed = adopted

    @classmethod
    def create(cls, folder: SpoolDirectory, first_number: int) -> "Segment":
        """A new file for records from `first_number` on, whose name survives a power cut. Raises `OSError`."""
        path = folder.path / f"{first_number:020d}{SUFFIX}"
        descriptor = os.open(path, CREATE, 0o600)
        try:
            sync_folder(folder.path)
        except OSError:
            os.close(descriptor)
            raise
        return cls(folder, path, descriptor, adopted=False)

    @classmethod
    def adopt(cls, folder: SpoolDirectory, path: Path) -> "Segment":
        """The file of a process that is no more: read, and never written. Raises `OSError`."""
        segment = cls(folder, path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), adopted=True)
        name, offset = folder.remembered()
        if name == path.name:
            segment.read_to = min(offset, segment.end)
        return segment

    def takes_more(self, size: int) -> bool:
        """Whether records may be appended, to a file of `size` bytes at most before that."""
        return not self._is_sealed and self.end < size

    @property
    def delivered_to(self) -> int:
        """Every byte before this one is delivered or set aside."""
        return next(iter(self.open_records), self.read_to)

    @property
    def is_done(self) -> bool:
        """Whether nothing in it has to be delivered."""
        return self.delivered_to == self.end

    def append(self, data: bytes) -> None:
        """Return when `data` is on disk. Raises `OSError`; then the file is as before, or takes no more."""
        try:
            self._write(data)
        except OSError:
            self._take_back()
            raise
        self.end += len(data)

    def read(self, most: int) -> bytes:
        """Up to `most` bytes of what has not been given out. Raises `OSError`."""
        parts, at, end = [], self.read_to, min(self.end, self.read_to + most)
        while at < end and (part := os.pread(self._descriptor, end - at, at)):
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        rest, at = memoryview(data), self.end
        while rest:
            written = os.pwrite(self._descriptor, rest, at)
            rest, at = rest[written:], at + written
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            self._is_sealed = True  # what the kernel holds and what the disk holds may differ from here on
            raise

    def _take_back(self) -> None:
        # What cannot be taken back lies beyond `end`. Should a later process find it, it is an event delivered
        # although its sender was refused, and the sender's next try has the same id.
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.end)


# Gives out the records of a segment, and sets aside what is damaged.


PIECE_BYTES: Final = 2 * 1024 * 1024
"""What is read at once; some longer than the longest record."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredEvent:
    """An event that was given out, and where it lies. Each is itself only: two folders may have the same number."""

    segment: Segment
    start: int
    kept: SpooledEvent


@dataclass(frozen=True, slots=True)
class CorruptRange:
    """Bytes in which no event could be read."""

    path: Path
    start: int
    size: int
    is_damage: bool
    """Whether there may have been events; else a crash cut short what nobody had been told is safe."""


def take(segment: Segment, most: int, root: Path, placed: list[StoredEvent], lost: list[CorruptRange]) -> None:
    """Add up to `most` events that were not given out before to `placed`, and what is lost to `lost`.

    Raises `OSError` when the segment cannot be read.
    """
    begun_at, wanted = segment.read_to, len(placed) + most
    _take_from(segment, segment.read(PIECE_BYTES), wanted, root, placed, lost)
    if segment.read_to == begun_at:  # not a single record that is whole
        _take_from(segment, segment.read(segment.end), wanted, root, placed, lost)


def _take_from(
    segment: Segment, data: bytes, wanted: int, root: Path, placed: list[StoredEvent], lost: list[CorruptRange]
) -> None:
    base = segment.read_to
    for found in walk(data):
        if isinstance(found, ValidRecord):
            placed.append(StoredEvent(segment, base + found.start, found.kept))
            segment.open_records[base + found.start] = None
        elif found.end == len(data) and base + len(data) < segment.end:
            return  # it may be whole with what follows
        else:
            lost.append(_lose(segment, base, found, data, root))
        segment.read_to = base + found.end
        if len(placed) >= wanted:
            return


def remove(segment: Segment, root: Path) -> bool:
    """Delete its file, or set it aside as a whole if it is worth keeping. False when that cannot be done now."""
    try:
        if segment.is_worth_keeping:
            segment.path.rename(corrupt.place(root, f"{segment.folder.path.name}-{segment.path.name}"))
        else:
            segment.path.unlink(missing_ok=True)
    except OSError:
        return False
    segment.close()
    return True


def _lose(segment: Segment, base: int, found: DamagedBytes | TornRecord, data: bytes, root: Path) -> CorruptRange:
    start, size = base + found.start, found.end - found.start
    # What this process wrote itself was whole when it was fsynced: a crash cannot have cut it short.
    is_damage = isinstance(found, DamagedBytes) or not segment.is_adopted
    if is_damage:
        try:
            _write_corrupt(segment, start, data[found.start : found.end], root)
        except OSError:
            segment.is_worth_keeping = True
    return CorruptRange(segment.path, start, size, is_damage)


def set_aside(placed: StoredEvent, root: Path) -> None:
    """Copy an event that nobody will take to the `corrupt` folder; its file is kept where that cannot be done."""
    try:
        _write_corrupt(placed.segment, placed.start, encode(placed.kept), root)
    except OSError:
        placed.segment.is_worth_keeping = True


def _write_corrupt(segment: Segment, start: int, data: bytes, root: Path) -> None:
    corrupt.write(root, f"{segment.folder.path.name}-{segment.path.stem}-{start}", data)
