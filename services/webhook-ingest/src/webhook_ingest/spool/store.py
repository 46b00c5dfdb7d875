"""All files that this process answers for: its own, and those of dead processes. For the thread that has them."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from safevideo_common.broker.types import Message
from webhook_ingest.spool.corrupt import EvictedFiles, keep_within
from webhook_ingest.spool.directory import UNFINISHED, SpoolDirectory, folders_in, make_root, remove_unfinished
from webhook_ingest.spool.format import SpooledEvent, ValidRecord, encode, walk
from webhook_ingest.spool.segment import CorruptRange, Segment, StoredEvent, remove, take

# Finds what dead processes left.


class Claimed(NamedTuple):
    """What was locked: the files of dead processes; and the folders that could not be opened, which stay."""

    segments: Sequence[Segment]
    unusable: Sequence[Path]
    dropped: EvictedFiles
    """Of what had been set aside."""

    @property
    def folders(self) -> int:
        """How many processes left something."""
        return len({segment.folder for segment in self.segments})


def claim(root: Path) -> Claimed:
    """Lock the folders in `root` whose processes are dead, and tidy up what is in nobody's.

    Raises `OSError` when `root` cannot be made or read.
    """
    segments: list[Segment] = []
    unusable: list[Path] = []
    for path in folders_in(root):
        try:
            segments += _claimed(path)
        except OSError:
            unusable.append(path)
    remove_unfinished(root)
    return Claimed(segments, unusable, keep_within(root))


def events_by_key(segment: Segment) -> Mapping[bytes, int]:
    """How many events of each key are to be delivered from it. Raises `OSError`."""
    found = walk(segment.read(segment.end))
    return Counter(each.kept.message.key for each in found if isinstance(each, ValidRecord))


def _claimed(path: Path) -> list[Segment]:
    folder = SpoolDirectory.claim(path)
    if folder is None:
        return []
    with ExitStack() as undo:
        undo.callback(folder.release)
        segments = [_opened(folder, each, undo) for each in folder.segments()]
        undo.pop_all()
    if not segments:
        folder.close()
    return segments


def _opened(folder: SpoolDirectory, path: Path, undo: ExitStack) -> Segment:
    segment = Segment.adopt(folder, path)
    undo.callback(segment.close)
    return segment


SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Where a new file begins: what is delivered is freed in steps of this size, and read into memory likewise."""

CHECK_BYTES: Final = 4096


class SpoolBatch(NamedTuple):
    """What was given out, and what was found to be lost on the way to it."""

    placed: Sequence[StoredEvent]
    lost: Sequence[CorruptRange]


class SegmentStore:
    """Appends at one end, gives out at the other, and removes what is delivered."""

    def __init__(self, root: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Touches nothing yet: a folder that cannot be made now may be made later."""
        self.disk_bytes = 0
        """Of all segments, delivered or not. Other threads may read it."""
        self.root = root
        self._segment_bytes = segment_bytes
        self._own: SpoolDirectory | None = None
        self._segments: list[Segment] = []  # in the order in which they are given out: the adopted ones come first
        self._claimed: list[Segment] = []  # not given out yet
        self._next_number = 1

    def append(self, messages: Sequence[Message], at_ms: int) -> int:
        """Return the number of the first when all are on disk. Raises `OSError`; then none of them is in the spool."""
        first_number = self._next_number
        data = b"".join(
            [encode(SpooledEvent(number, at_ms, each)) for number, each in enumerate(messages, first_number)]
        )
        try:
            self._open_segment().append(data)
        except OSError:
            self._tidy()  # a new file is of no use without its first record
            raise
        self.disk_bytes += len(data)
        self._next_number += len(messages)
        return first_number

    def take(self, most: int) -> SpoolBatch:
        """Up to `most` events that were not given out before, in order. Raises `OSError` when none can be read."""
        placed: list[StoredEvent] = []
        lost: list[CorruptRange] = []
        for segment in self._segments:
            begun_at = segment.read_to
            try:
                if len(placed) < most and segment.read_to < segment.end:
                    take(segment, most - len(placed), self.root, placed, lost)
            except OSError:
                if not placed:
                    raise
                break  # what was given out is not lost; and nothing may overtake what cannot be read
            if begun_at < segment.read_to < segment.end:
                break  # a piece of it was read; the next file must not overtake the rest
        return SpoolBatch(placed, lost)

    def deliver(self, delivered: Iterable[StoredEvent]) -> bool:
        """These need not be given out again. Remove the files that hold no others; True when nothing is left.

        A file that cannot be removed stays, and is delivered once more after the next start.
        """
        for placed in delivered:
            placed.segment.open_records.pop(placed.start, None)
        self._tidy()
        return all(segment.is_done for segment in self._segments)

    def claim(self) -> Claimed:
        """Lock what dead processes left, and tidy up. Raises `OSError` when the folder cannot be made or read."""
        claimed = claim(self.root)
        self._claimed += claimed.segments
        return claimed

    def admit(self) -> Mapping[bytes, int] | None:
        """Give out the next claimed file, before all of our own; how many events it has of each key.

        One file at a time, so that others who wait for the disk get their turn between two. None when all are
        admitted. Raises `OSError` when it cannot be read; it is tried again by the next call.
        """
        if not self._claimed:
            return None
        keys = events_by_key(self._claimed[0])
        adopted = sum(segment.is_adopted for segment in self._segments)
        self._segments.insert(adopted, self._claimed.pop(0))
        self._tidy()
        return keys

    def check(self) -> None:
        """Return when the disk takes a small file. Raises `OSError`."""
        make_root(self.root)
        with TemporaryFile(dir=self.root, prefix=UNFINISHED) as file:
            file.write(bytes(CHECK_BYTES))
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Let all go; what holds records stays for whoever comes next."""
        self._tidy()
        segments = [*self._segments, *self._claimed]
        folders = {segment.folder for segment in segments} | ({self._own} if self._own else set())
        for segment in segments:
            segment.close()
        for folder in folders:
            folder.close()

    def _open_segment(self) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is None or not last.takes_more(self._segment_bytes):
            self._own = self._own or SpoolDirectory.make(self.root)
            last = Segment.create(self._own, self._next_number)
            self._segments.append(last)
        return last

    def _tidy(self) -> None:
        """Remove what is done, remember how far the oldest of each folder is, and weigh what is left."""
        before = {segment.folder for segment in self._segments}
        waiting = {segment.folder for segment in self._claimed}
        self._segments = [each for each in self._segments if not (each.is_done and remove(each, self.root))]
        oldest = {segment.folder: segment for segment in reversed(self._segments)}
        for folder, segment in oldest.items():
            folder.remember(segment.path.name, segment.delivered_to)
        for folder in before - oldest.keys() - waiting - {self._own}:
            folder.close()
        self.disk_bytes = sum(segment.end for segment in self._segments)
