"""The record format: marker, length and checksum, then number, time and message in MessagePack."""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from safevideo_common.broker.types import MAX_VALUE_BYTES, Message

MARKER: Final = b"\xf5spl"
"""The first bytes of each record. UTF-8 text has no byte 0xf5, so no sender can imitate the start of a record."""

MAX_BODY_BYTES: Final = MAX_VALUE_BYTES + 512 * 1024
"""The longest body of a record: the largest value, and far more than the headers that ingest accepts."""

_FRAME: Final = struct.Struct(">4sII")
FRAME_BYTES: Final = _FRAME.size


class SpooledEvent(NamedTuple):
    """An event in the spool."""

    number: int
    """Starts at 1 and rises by one in a process's directory: a gap shows how many events are missing."""
    at_ms: int
    """Unix milliseconds of the write."""
    message: Message


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(SpooledEvent).decode


def encode(event: SpooledEvent) -> bytes:
    """Return the record of an event."""
    body = _encode(event)
    return _FRAME.pack(MARKER, len(body), _checksum(body)) + body


class ValidRecord(NamedTuple):
    """A valid record and its position."""

    start: int
    end: int
    event: SpooledEvent


class CorruptBytes(NamedTuple):
    """Bytes that are no record, between records or after the last record."""

    start: int
    end: int


class TornRecord(NamedTuple):
    """The first part of a record at the end of the data. It was never fsynced, so it was never acknowledged."""

    start: int
    end: int


def scan(data: bytes) -> Iterator[ValidRecord | CorruptBytes | TornRecord]:
    """Yield all of `data` in order and without gaps. Never raises, whatever the data are."""
    position = 0
    while position < len(data):
        piece = _scan_at(data, position)
        yield piece
        position = piece.end


def record_at(data: bytes, position: int) -> ValidRecord | None:
    """Return the record at `position`, or None if there is no valid one."""
    return _decode_at(data, position) if position < len(data) else None


def _scan_at(data: bytes, start: int) -> ValidRecord | CorruptBytes | TornRecord:
    if record := _decode_at(data, start):
        return record
    if (next_start := _next_valid(data, start + 1)) is not None:
        return CorruptBytes(start, next_start)
    return TornRecord(start, len(data)) if _is_torn(data[start:]) else CorruptBytes(start, len(data))


def _next_valid(data: bytes, start: int) -> int | None:
    while (start := data.find(MARKER, start)) >= 0:
        if _decode_at(data, start):
            return start
        start += 1
    return None


def _decode_at(data: bytes, start: int) -> ValidRecord | None:
    if len(data) - start < FRAME_BYTES:
        return None
    marker, length, checksum = _FRAME.unpack_from(data, start)
    end = start + FRAME_BYTES + length
    if marker != MARKER or length > MAX_BODY_BYTES or end > len(data):
        return None
    body = data[start + FRAME_BYTES : end]
    try:
        return ValidRecord(start, end, _decode(body)) if _checksum(body) == checksum else None
    except (msgspec.DecodeError, ValueError):
        return None  # another version wrote it: save the bytes, do not guess


def _is_torn(rest: bytes) -> bool:
    """Return True if `rest`, which has no valid record, is what a crash leaves: zeros or the start of a record."""
    if not rest.strip(b"\0"):
        return True
    if len(rest) < FRAME_BYTES:
        return rest[: len(MARKER)] == MARKER[: len(rest)]
    marker, length, _ = _FRAME.unpack_from(rest)
    return bool(marker == MARKER and length <= MAX_BODY_BYTES and len(rest) < FRAME_BYTES + length)


def _checksum(body: bytes) -> int:
    return crc32(body, len(body))  # the length is the start value, so the checksum covers it
