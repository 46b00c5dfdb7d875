"""The segments of a JPEG (ITU T.81, annex B): how many scans there are, and a copy without metadata."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_SOI: Final = 0xD8
_EOI: Final = 0xD9
_SOS: Final = 0xDA
_APP0: Final = 0xE0
_APP14: Final = 0xEE
_APP15: Final = 0xEF
_COM: Final = 0xFE
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length: TEM, the restarts and SOI."""
_NEXT_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])")
_END_OF_SCAN: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker that is no restart. In coded data a zero follows each 0xFF."""
_JFIF: Final = b"JFIF\0"
_JFIF_BYTES: Final = 12
"""Identifier, version, density. A thumbnail may follow."""
_ADOBE: Final = b"Adobe"
_ADOBE_BYTES: Final = 12
"""Identifier, version, flags, and the transform of the colours."""


class Segment(NamedTuple):
    """A segment. `content` is without marker and length; `coded` is the data of a scan, which follows its header."""

    marker: int
    content: bytes
    coded: bytes = b""


def segments(document: bytes) -> Iterator[Segment]:
    """Yield the segments up to the end of the picture, as decoders find them: what lies between them is passed over.

    Raises `ValueError` for what is no JPEG, or ends inside a segment.
    """
    if not document.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG")
    position = 2
    while found := _NEXT_MARKER.search(document, position):
        marker, position = found[1][0], found.end()
        if marker == _EOI:
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(document[position : position + 2])
        if length < 2 or position + length > len(document):
            raise ValueError("a segment is cut off")
        content = document[position + 2 : position + length]
        position += length
        if marker != _SOS:
            yield Segment(marker, content)
            continue
        end = _END_OF_SCAN.search(document, position)
        scan_end = end.start() if end else len(document)
        yield Segment(marker, content, document[position:scan_end])
        position = scan_end


def count_scans(document: bytes, limit: int) -> int:
    """Return the number of scans, at most `limit` + 1. A decoder goes over the whole picture for each."""
    count = 0
    try:
        for segment in segments(document):
            count += segment.marker == _SOS
            if count > limit:
                break
    except ValueError:
        pass  # the decoder has the last word on what is damaged
    return count


def without_metadata(document: bytes) -> bytes:
    """Return the picture without EXIF, XMP, profiles, comments, thumbnails, and what follows its end.

    Raises `ValueError` for what is no JPEG.
    """
    clean = bytearray(b"\xff\xd8")
    for marker, content, coded in segments(document):
        kept = _kept(marker, content)
        if kept is not None:
            clean += bytes((0xFF, marker)) + (len(kept) + 2).to_bytes(2) + kept + coded
    return bytes(clean + b"\xff\xd9")


def _kept(marker: int, content: bytes) -> bytes | None:
    """Return what decoders need of a segment, or None if they need nothing of it."""
    if marker == _APP0:
        return content[:_JFIF_BYTES] + b"\0\0" if content.startswith(_JFIF) else None
    if marker == _APP14:
        return content[:_ADOBE_BYTES] if content.startswith(_ADOBE) else None
    return None if _APP0 < marker <= _APP15 or marker == _COM else content
