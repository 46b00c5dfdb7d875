"""A JPEG 2000 picture (ITU T.800) without its boxes of metadata and its comments."""

from collections.abc import Iterator
from typing import Final

_SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
_KEPT_BOXES: Final = frozenset({b"jP  ", b"ftyp", b"jp2h", b"jp2c"})
_CODESTREAM: Final = b"jp2c"
_START: Final = b"\xff\x4f"
_COMMENT: Final = b"\xff\x64"
_FIRST_TILE: Final = b"\xff\x90"


def without_metadata(document: bytes) -> bytes:
    """Return the picture with what decoders need of it. Raises `ValueError` for what is no JPEG 2000."""
    if not document.startswith(_SIGNATURE):
        return _without_comments(document)
    clean = bytearray()
    for kind, content in _boxes(document):
        if kind in _KEPT_BOXES:
            kept = _without_comments(content) if kind == _CODESTREAM else content
            clean += (len(kept) + 8).to_bytes(4) + kind + kept
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
    if not codestream.startswith(_START):
        raise ValueError("no JPEG 2000")
    clean, position = bytearray(_START), 2
    while (marker := codestream[position : position + 2]) != _FIRST_TILE:
        length = int.from_bytes(codestream[position + 2 : position + 4])
        end = position + 2 + length
        if length < 2 or end > len(codestream):
            raise ValueError("the header is cut off")
        if marker != _COMMENT:
            clean += codestream[position:end]
        position = end
    return bytes(clean + codestream[position:])
