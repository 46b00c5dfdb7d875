"""Finds what dead processes left."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from webhook_ingest.adapters.spool.corrupt import Dropped, keep_within
from webhook_ingest.adapters.spool.folder import Folder, folders_in, remove_unfinished
from webhook_ingest.adapters.spool.scanning import Intact, walk
from webhook_ingest.adapters.spool.segment import Segment


class Claimed(NamedTuple):
    """What was locked: the files of dead processes; and the folders that could not be opened, which stay."""

    segments: Sequence[Segment]
    unusable: Sequence[Path]
    dropped: Dropped
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
    return Counter(each.kept.message.key for each in found if isinstance(each, Intact))


def _claimed(path: Path) -> list[Segment]:
    folder = Folder.claim(path)
    if folder is None:
        return []
    with ExitStack() as undo:
        undo.callback(folder.release)
        segments = [_opened(folder, each, undo) for each in folder.segments()]
        undo.pop_all()
    if not segments:
        folder.close()
    return segments


def _opened(folder: Folder, path: Path, undo: ExitStack) -> Segment:
    segment = Segment.adopt(folder, path)
    undo.callback(segment.close)
    return segment
