"""The path that a browser may be sent to after its sign-in: one of this site, however a browser reads it.

Browsers drop tabs and line feeds, take a backslash for a slash, and read `//host` as another site. A proxy may decode a
path once more. So a path is refused unless it is plain, also after it was decoded several times.
"""

import re
from typing import Final
from urllib.parse import unquote

from safevideo_common.errors import ValidationFailed

MAX_LENGTH: Final = 512
HOME: Final = "/"

_PLAIN: Final = re.compile(
    r"(?P<path>/[A-Za-z0-9_.~!$&'()*+,;=%/-]*)(?:[?#][A-Za-z0-9_.~!$&'()*+,;=%/:@?#-]*)?", re.ASCII
)
_DECODED_SEGMENT: Final = re.compile(r"[^\x00-\x20/\\@:?#\x7f-\x9f]*")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DECODINGS: Final = 3


def parse_return_to(value: str) -> str:
    """Return `value` if it is a path within this site and not of the sign-in itself. Raises `ValidationFailed`."""
    match = _PLAIN.fullmatch(value) if len(value) <= MAX_LENGTH else None
    if match is None or _BAD_ESCAPE.search(value) or not _stays_here(match["path"]):
        text = "must be a path of this site, such as /performers, and not under /auth/"
        raise ValidationFailed("Some query parameters are wrong.", details={"returnTo": text})
    return value


def _stays_here(path: str) -> bool:
    for _ in range(_DECODINGS):
        segments = path.split("/")[1:]
        if "" in segments[:-1] or {".", ".."} & set(segments) or not all(map(_DECODED_SEGMENT.fullmatch, segments)):
            return False
        if segments[0].casefold() == "auth" or not path.startswith("/"):
            return False
        if (decoded := unquote(path)) == path:
            return True
        path = decoded
    return False
