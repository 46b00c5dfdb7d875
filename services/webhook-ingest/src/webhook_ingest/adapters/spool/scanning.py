"""Walks through the bytes of a segment: what is intact, what is damaged, what a crash has cut short."""

from collections.abc import Iterator
from typing import NamedTuple

from webhook_ingest.adapters.spool.records import MARK, Kept, decode_at, is_cut_short


class Intact(NamedTuple):
    """A record, and where it lies."""

    start: int
    end: int
    kept: Kept


class Damaged(NamedTuple):
    """Bytes that are no record, between records or after the last one."""

    start: int
    end: int


class CutShort(NamedTuple):
    """The beginning of a record at the end of the data: it was never fsynced, so nobody was told that it is safe."""

    start: int
    end: int


Found = Intact | Damaged | CutShort


def walk(data: bytes) -> Iterator[Found]:
    """All of `data` from its beginning to its end, in pieces that leave no gap. Never raises, whatever it holds."""
    at = 0
    while at < len(data):
        found = _found_at(data, at)
        yield found
        at = found.end


def _found_at(data: bytes, start: int) -> Found:
    if record := decode_at(data, start):
        kept, end = record
        return Intact(start, end, kept)
    if (next_start := _next_intact(data, start + 1)) is not None:
        return Damaged(start, next_start)
    rest = data[start:]
    return CutShort(start, len(data)) if is_cut_short(rest) else Damaged(start, len(data))


def _next_intact(data: bytes, start: int) -> int | None:
    while (start := data.find(MARK, start)) >= 0:
        if decode_at(data, start):
            return start
        start += 1
    return None
