"""All segments of this process: its own, and those it adopted from dead processes.

Only the writer's thread uses it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from safevideo_common.broker.types import Message, TopicPartition
from webhook_ingest.spool import corrupt
from webhook_ingest.spool.corrupt import EvictedFiles
from webhook_ingest.spool.directory import UNFINISHED, SpoolDirectory, list_directories, make_root, remove_unfinished
from webhook_ingest.spool.format import SpooledEvent, encode
from webhook_ingest.spool.segment import CorruptRange, Segment, SpoolBatch, StoredEvent

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Size at which a new segment begins: disk space of delivered events becomes free in steps of this size."""

CHECK_BYTES: Final = 4096


class LockResult(NamedTuple):
    """The result of `SegmentStore.lock`."""

    directories: int
    """Directories of dead processes that have events."""
    unusable: Sequence[Path]
    """Directories that could not be opened; they stay."""
    evicted: EvictedFiles
    """Files removed from the `corrupt` directory."""


class SegmentStore:
    """An ordered store of events: append at one end, read at the other, remove what is delivered."""

    def __init__(self, root: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Touch no file: a directory that cannot be created now may be created later."""
        self.disk_bytes = 0
        """Bytes of all segments, delivered or not. Other threads may read it."""
        self.directories: frozenset[str] = frozenset()
        """The names of directories that are ours with all their segments. Other threads may read it."""
        self._root = root
        self._segment_bytes = segment_bytes
        self._own: SpoolDirectory | None = None
        self._segments: list[Segment] = []  # in reading order: the adopted ones come first
        self._locked: list[Segment] = []  # not adopted yet
        self._next_number = 1

    def append(self, messages: Sequence[Message], at_ms: int) -> int:
        """Return the number of the first message when all are on disk. Raises `OSError`; then none is in the store."""
        try:
            segment = self._open_segment()
            first_number = self._next_number
            numbered = enumerate(messages, first_number)
            data = b"".join([encode(SpooledEvent(number, at_ms, each)) for number, each in numbered])
            segment.append(data)
        except OSError:
            self._cleanup()  # a new file without a record is of no use
            raise
        self.disk_bytes += len(data)
        self._next_number += len(messages)
        return first_number

    def read_batch(self, limit: int) -> SpoolBatch:
        """Return up to `limit` unread events, in order. Raises `OSError` if none can be read."""
        events: list[StoredEvent] = []
        corrupt_ranges: list[CorruptRange] = []
        for segment in self._segments:
            if len(events) >= limit:
                break
            if not segment.has_unread():
                continue
            try:
                batch = segment.read_batch(limit - len(events))
            except OSError:
                if not events:
                    raise
                break  # return what was read; later segments must not overtake this one
            events += batch.events
            corrupt_ranges += batch.corrupt
            if segment.has_unread() and (batch.events or batch.corrupt):
                break  # the next segment must not overtake the rest of this one
        return SpoolBatch(events, corrupt_ranges)

    def read_deferred(self, partition: TopicPartition, limit: int) -> SpoolBatch:
        """Return up to `limit` events that wait for `partition`, in order. Raises `OSError`."""
        events: list[StoredEvent] = []
        damaged: list[CorruptRange] = []
        for segment in self._segments:
            if len(events) >= limit:
                break
            batch = segment.read_deferred(partition, limit - len(events))
            events += batch.events
            damaged += batch.corrupt
        return SpoolBatch(events, damaged)

    def defer(self, waiting: Iterable[StoredEvent], partition: TopicPartition) -> None:
        """Let events wait for `partition`."""
        for stored in waiting:
            stored.segment.defer(stored, partition)

    def mark_delivered(self, delivered: Iterable[StoredEvent]) -> bool:
        """Remove the segments that are delivered now. Return True if no event awaits delivery.

        A segment that cannot be removed stays, and is delivered once more after the next start.
        """
        for stored in delivered:
            stored.segment.mark_delivered(stored)
        self._cleanup()
        return all(segment.is_delivered for segment in self._segments)

    def lock(self) -> LockResult:
        """Lock the directories of dead processes, and remove leftovers. Raises `OSError` if the root is unusable."""
        directories, unusable = 0, list[Path]()
        for path in list_directories(self._root):
            try:
                segments = _lock_segments(path)
            except OSError:
                unusable.append(path)
            else:
                self._locked += segments
                directories += bool(segments)
        remove_unfinished(self._root)
        return LockResult(directories, unusable, corrupt.evict_oldest(self._root))

    def adopt(self) -> Mapping[bytes, int] | None:
        """Add the next locked segment before our own; return its events by key, or None if there is none.

        One segment a call, so that appends get their turn in between. Raises `OSError` if it cannot be read; the next
        call tries it again.
        """
        if not self._locked:
            return None
        events_by_key = self._locked[0].count_by_key()
        adopted = sum(segment.is_adopted for segment in self._segments)
        segment = self._locked.pop(0)
        self._segments.insert(adopted, segment)
        if not any(each.directory is segment.directory for each in self._locked):
            self.directories |= {segment.directory.path.name}
        self._cleanup()
        return events_by_key

    def check(self) -> None:
        """Return when a small file was written to disk. Raises `OSError`."""
        make_root(self._root)
        with TemporaryFile(dir=self._root, prefix=UNFINISHED) as file:
            file.write(bytes(CHECK_BYTES))
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close and unlock everything. Undelivered events stay for the next process."""
        self._cleanup()
        segments = [*self._segments, *self._locked]
        directories = {segment.directory for segment in segments} | ({self._own} if self._own else set())
        for segment in segments:
            segment.close()
        for directory in directories:
            directory.close()

    def _open_segment(self) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is None or not last.accepts(self._segment_bytes):
            self._own = self._own or SpoolDirectory.create(self._root)
            self.directories |= {self._own.path.name}
            last = self._create_segment(self._own)
            self._segments.append(last)
        return last

    def _create_segment(self, directory: SpoolDirectory) -> Segment:
        """Create the next file. Where a file without a record could not be removed, one more number is skipped."""
        while True:
            try:
                return Segment.create(directory, self._next_number)
            except FileExistsError:
                self._next_number += 1

    def _cleanup(self) -> None:
        """Remove delivered segments, save the position of each directory, and update `disk_bytes`."""
        before = {segment.directory for segment in self._segments}
        locked = {segment.directory for segment in self._locked}
        self._segments = [each for each in self._segments if not (each.is_delivered and each.remove())]
        oldest = {segment.directory: segment for segment in reversed(self._segments)}
        for directory, segment in oldest.items():
            directory.save_position(segment.path.name, segment.delivered_to)
        for directory in before - oldest.keys() - locked - {self._own}:
            self.directories -= {directory.path.name}
            directory.close()
        self.disk_bytes = sum(segment.end for segment in self._segments)


def _lock_segments(path: Path) -> list[Segment]:
    """Return the segments of a dead process; none if its process lives. Raises `OSError`."""
    directory = SpoolDirectory.lock(path)
    if directory is None:
        return []
    with ExitStack() as undo:
        undo.callback(directory.unlock)
        segments = list[Segment]()
        for each in directory.segment_paths():
            segments.append(Segment.adopt(directory, each))
            undo.callback(segments[-1].close)
        undo.pop_all()
    if not segments:
        directory.close()
    return segments
