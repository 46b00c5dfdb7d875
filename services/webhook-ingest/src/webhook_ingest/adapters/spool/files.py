"""All files that this process answers for: its own, and those of dead processes. For the thread that has them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from safevideo_common.messaging.port import Message
from webhook_ingest.adapters.spool.adopting import Claimed, claim, events_by_key
from webhook_ingest.adapters.spool.folder import UNFINISHED, Folder, make_root
from webhook_ingest.adapters.spool.records import Kept, encode
from webhook_ingest.adapters.spool.segment import Segment
from webhook_ingest.adapters.spool.taking import Lost, Placed, remove, take

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Where a new file begins: what is delivered is freed in steps of this size, and read into memory likewise."""

CHECK_BYTES: Final = 4096


class Taken(NamedTuple):
    """What was given out, and what was found to be lost on the way to it."""

    placed: Sequence[Placed]
    lost: Sequence[Lost]


class SpoolFiles:
    """Appends at one end, gives out at the other, and removes what is delivered."""

    def __init__(self, root: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Touches nothing yet: a folder that cannot be made now may be made later."""
        self.disk_bytes = 0
        """Of all segments, delivered or not. Other threads may read it."""
        self.root = root
        self._segment_bytes = segment_bytes
        self._own: Folder | None = None
        self._segments: list[Segment] = []  # in the order in which they are given out: the adopted ones come first
        self._claimed: list[Segment] = []  # not given out yet
        self._next_number = 1

    def append(self, messages: Sequence[Message], at_ms: int) -> int:
        """Return the number of the first when all are on disk. Raises `OSError`; then none of them is in the spool."""
        first_number = self._next_number
        data = b"".join([encode(Kept(number, at_ms, each)) for number, each in enumerate(messages, first_number)])
        try:
            self._open_segment().append(data)
        except OSError:
            self._tidy()  # a new file is of no use without its first record
            raise
        self.disk_bytes += len(data)
        self._next_number += len(messages)
        return first_number

    def take(self, most: int) -> Taken:
        """Up to `most` events that were not given out before, in order. Raises `OSError` when none can be read."""
        placed: list[Placed] = []
        lost: list[Lost] = []
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
        return Taken(placed, lost)

    def deliver(self, delivered: Iterable[Placed]) -> bool:
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
            self._own = self._own or Folder.make(self.root)
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
