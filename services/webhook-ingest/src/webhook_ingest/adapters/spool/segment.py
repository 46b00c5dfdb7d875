"""One file of records. For the thread that has the files."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from webhook_ingest.adapters.spool.folder import SUFFIX, Folder, sync_folder

CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class Segment:
    """A file, how much of it is safe on disk, how much of that has been given out, and what of that is open."""

    __slots__ = ("_descriptor", "_is_sealed", "end", "folder", "is_adopted", "is_worth_keeping", "open_records", "path",
                 "read_to")  # fmt: skip

    def __init__(self, folder: Folder, path: Path, descriptor: int, *, adopted: bool) -> None:
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
    def create(cls, folder: Folder, first_number: int) -> "Segment":
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
    def adopt(cls, folder: Folder, path: Path) -> "Segment":
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
