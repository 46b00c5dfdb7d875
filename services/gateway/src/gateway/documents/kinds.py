"""The kinds of documents that are accepted, recognised by their first bytes and never by a name or a header."""

from enum import StrEnum
from typing import Final

HEAD_BYTES: Final = 64
"""How many bytes of a file decide."""

# What the converter and its process say to each other.
KIND_BYTES: Final = 8
READY: Final = b"R"
DOCUMENT: Final = b"D"
REJECTED: Final = b"E"
CPU_SECONDS: Final = 5
"""Processor time of one conversion. A photo of 50 megapixels takes one second."""

_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})
_FTYP_BRAND: Final = slice(8, 12)


class Refused(Exception):
    """The document is not accepted. The message is for the person who uploaded it."""


class DocumentKind(StrEnum):
    """A kind of document, by the name of its format."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    HEIF = "HEIF"
    PDF = "PDF"

    @property
    def stored_type(self) -> str:
        """Return the media type in which a document of this kind is stored: every image becomes a JPEG."""
        return "application/pdf" if self is DocumentKind.PDF else "image/jpeg"


def kind_of(head: bytes) -> DocumentKind | None:
    """Return the kind of a file that begins with `head`, or None for what is not accepted."""
    if head.startswith(b"\xff\xd8\xff"):
        return DocumentKind.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return DocumentKind.PNG
    if head.startswith(b"RIFF") and head[_FTYP_BRAND] == b"WEBP":
        return DocumentKind.WEBP
    if head[4:8] == b"ftyp" and head[_FTYP_BRAND] in _HEIF_BRANDS:
        return DocumentKind.HEIF
    if head.startswith(b"%PDF-"):
        return DocumentKind.PDF
    return None
