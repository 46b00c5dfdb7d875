"""JPEG (ITU T.81, annex B) and JPEG 2000 (ITU T.800): pictures without their metadata, and the number of scans."""

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

_JP2_SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
_CODESTREAM_BOX: Final = b"jp2c"
_NEEDED_BOXES: Final = frozenset({b"jP  ", b"ftyp", b"jp2h", _CODESTREAM_BOX})
_CODESTREAM_START: Final = b"\xff\x4f"
_COMMENT: Final = b"\xff\x64"
_FIRST_TILE: Final = b"\xff\x90"


class JpegSegment(NamedTuple):
    """A segment. `content` is without marker and length; `coded` is the data of a scan, which follows its header."""

    marker: int
    content: bytes
    coded: bytes = b""


def segments(document: bytes) -> Iterator[JpegSegment]:
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
            yield JpegSegment(marker, content)
            continue
        end = _END_OF_SCAN.search(document, position)
        scan_end = end.start() if end else len(document)
        yield JpegSegment(marker, content, document[position:scan_end])
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


def clean_jpeg(document: bytes) -> bytes:
    """Return the picture without EXIF, XMP, profiles, comments, thumbnails, and what follows its end.

    Raises `ValueError` for what is no JPEG.
    """
    clean = bytearray(b"\xff\xd8")
    for marker, content, coded in segments(document):
        needed = _retained(marker, content)
        if needed is not None:
            clean += bytes((0xFF, marker)) + (len(needed) + 2).to_bytes(2) + needed + coded
    return bytes(clean + b"\xff\xd9")


def _retained(marker: int, content: bytes) -> bytes | None:
    """Return what decoders need of a segment, or None if they need nothing of it."""
    if marker == _APP0:
        return content[:_JFIF_BYTES] + b"\0\0" if content.startswith(_JFIF) else None
    if marker == _APP14:
        return content[:_ADOBE_BYTES] if content.startswith(_ADOBE) else None
    return None if _APP0 < marker <= _APP15 or marker == _COM else content


def clean_jpeg_2000(document: bytes) -> bytes:
    """Return the picture with what decoders need of it. Raises `ValueError` for what is no JPEG 2000."""
    if not document.startswith(_JP2_SIGNATURE):
        return _without_comments(document)
    clean = bytearray()
    for kind, content in _boxes(document):
        if kind in _NEEDED_BOXES:
            needed = _without_comments(content) if kind == _CODESTREAM_BOX else content
            clean += (len(needed) + 8).to_bytes(4) + kind + needed
    return bytes(clean)


def _boxes(document: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of each box."""
    position = 0
    while position < len(document):
        length, kind, head = int.from_bytes(document[position : position + 4]), document[position + 4 : position + 8], 8
        if length == 1:
            length, head = int.from_bytes(document[position + 8 : position + 16]), 16
        elif length == 0:  # up to the end of the file
            length = len(document) - position
        if length < head or position + length > len(document):
            raise ValueError("a box is cut off")
        yield kind, document[position + head : position + length]
        position += length


def _without_comments(codestream: bytes) -> bytes:
    """Return a codestream without the comments of its main header."""
    if not codestream.startswith(_CODESTREAM_START):
        raise ValueError("no JPEG 2000")
    clean, position = bytearray(_CODESTREAM_START), 2
    while (marker := codestream[position : position + 2]) != _FIRST_TILE:
        length = int.from_bytes(codestream[position + 2 : position + 4])
        end = position + 2 + length
        if length < 2 or end > len(codestream):
            raise ValueError("the header is cut off")
        if marker != _COMMENT:
            clean += codestream[position:end]
        position = end
    return bytes(clean + codestream[position:])
