"""How one event looks on disk: a mark, its length, its checksum, and then number, time and message in MessagePack."""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from safevideo_common.broker.types import MAX_VALUE_BYTES, Message

MARK: Final = b"\xf5spl"
"""Begins each record. No UTF-8 text has the byte 0xf5: nothing that a sender writes looks like a record's start."""

MAX_BODY_BYTES: Final = MAX_VALUE_BYTES + 512 * 1024
"""No record is longer: the largest value, and far more than the headers that the door lets through."""

_FRAME: Final = struct.Struct(">4sII")
FRAME_BYTES: Final = _FRAME.size


class SpooledEvent(NamedTuple):
    """One event in the spool."""

    number: int
    """From 1 on, rising by one within a process's folder, so that a gap says how many were lost."""
    at_ms: int
    """Unix milliseconds at which it came into the spool."""
    message: Message


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(SpooledEvent).decode


def encode(kept: SpooledEvent) -> bytes:
    """The record."""
    body = _encode(kept)
    return _FRAME.pack(MARK, len(body), _checksum(body)) + body


def decode_at(data: bytes, start: int) -> tuple[SpooledEvent, int] | None:
    """The intact record that begins at `start` and the place after it; None where there is none."""
    if len(data) - start < FRAME_BYTES:
        return None
    mark, length, checksum = _FRAME.unpack_from(data, start)
    end = start + FRAME_BYTES + length
    if mark != MARK or length > MAX_BODY_BYTES or end > len(data):
        return None
    body = data[start + FRAME_BYTES : end]
    try:
        return (_decode(body), end) if _checksum(body) == checksum else None
    except (msgspec.DecodeError, ValueError):
        return None  # written by a version that is not ours: to be set aside, not guessed at


def is_cut_short(rest: bytes) -> bool:
    """Whether `rest`, in which no record is intact, is what a crash leaves: the beginning of a record, or zeros."""
    if not rest.strip(b"\0"):
        return True
    if len(rest) < FRAME_BYTES:
        return rest[: len(MARK)] == MARK[: len(rest)]
    mark, length, _ = _FRAME.unpack_from(rest)
    return bool(mark == MARK and length <= MAX_BODY_BYTES and len(rest) < FRAME_BYTES + length)


def _checksum(body: bytes) -> int:
    return crc32(body, len(body))  # begun with the length, so that it is covered too


# Walks through the bytes of a segment: what is intact, what is damaged, what a crash has cut short.


class ValidRecord(NamedTuple):
    """A record, and where it lies."""

    start: int
    end: int
    kept: SpooledEvent


class DamagedBytes(NamedTuple):
    """Bytes that are no record, between records or after the last one."""

    start: int
    end: int


class TornRecord(NamedTuple):
    """The beginning of a record at the end of the data: it was never fsynced, so nobody was told that it is safe."""

    start: int
    end: int


Found = ValidRecord | DamagedBytes | TornRecord


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
        return ValidRecord(start, end, kept)
    if (next_start := _next_intact(data, start + 1)) is not None:
        return DamagedBytes(start, next_start)
    rest = data[start:]
    return TornRecord(start, len(data)) if is_cut_short(rest) else DamagedBytes(start, len(data))


def _next_intact(data: bytes, start: int) -> int | None:
    while (start := data.find(MARK, start)) >= 0:
        if decode_at(data, start):
            return start
        start += 1
    return None
