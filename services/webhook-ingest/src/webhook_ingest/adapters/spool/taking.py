"""Gives out the records of a segment, and sets aside what is damaged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webhook_ingest.adapters.spool import corrupt
from webhook_ingest.adapters.spool.records import Kept, encode
from webhook_ingest.adapters.spool.scanning import CutShort, Damaged, Intact, walk
from webhook_ingest.adapters.spool.segment import Segment

PIECE_BYTES: Final = 2 * 1024 * 1024
"""What is read at once; some longer than the longest record."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """An event that was given out, and where it lies. Each is itself only: two folders may have the same number."""

    segment: Segment
    start: int
    kept: Kept


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes in which no event could be read."""

    path: Path
    start: int
    size: int
    is_damage: bool
    """Whether there may have been events; else a crash cut short what nobody had been told is safe."""


def take(segment: Segment, most: int, root: Path, placed: list[Placed], lost: list[Lost]) -> None:
    """Add up to `most` events that were not given out before to `placed`, and what is lost to `lost`.

    Raises `OSError` when the segment cannot be read.
    """
    begun_at, wanted = segment.read_to, len(placed) + most
    _take_from(segment, segment.read(PIECE_BYTES), wanted, root, placed, lost)
    if segment.read_to == begun_at:  # not a single record that is whole
        _take_from(segment, segment.read(segment.end), wanted, root, placed, lost)


def _take_from(segment: Segment, data: bytes, wanted: int, root: Path, placed: list[Placed], lost: list[Lost]) -> None:
    base = segment.read_to
    for found in walk(data):
        if isinstance(found, Intact):
            placed.append(Placed(segment, base + found.start, found.kept))
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


def _lose(segment: Segment, base: int, found: Damaged | CutShort, data: bytes, root: Path) -> Lost:
    start, size = base + found.start, found.end - found.start
    # What this process wrote itself was whole when it was fsynced: a crash cannot have cut it short.
    is_damage = isinstance(found, Damaged) or not segment.is_adopted
    if is_damage:
        try:
            _write_corrupt(segment, start, data[found.start : found.end], root)
        except OSError:
            segment.is_worth_keeping = True
    return Lost(segment.path, start, size, is_damage)


def set_aside(placed: Placed, root: Path) -> None:
    """Copy an event that nobody will take to the `corrupt` folder; its file is kept where that cannot be done."""
    try:
        _write_corrupt(placed.segment, placed.start, encode(placed.kept), root)
    except OSError:
        placed.segment.is_worth_keeping = True


def _write_corrupt(segment: Segment, start: int, data: bytes, root: Path) -> None:
    corrupt.write(root, f"{segment.folder.path.name}-{segment.path.stem}-{start}", data)
