"""Multipart forms (RFC 7578), parsed in small steps and within limits, whatever the body is.

A step looks at each byte once and does nothing else of any length, so a form keeps no other request waiting. Everything
that is wrong with a form is `ValidationFailed`. The reader of aiohttp searches for the first boundary line by line,
without a limit and without a return to the event loop, and raises many classes of errors.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

from aiohttp import web
from aiohttp.hdrs import CONTENT_TYPE

from safevideo_common.errors import PayloadTooLarge, ValidationFailed

FORM_TYPE: Final = "multipart/form-data"
STEP_BYTES: Final = 16 << 10
"""Bytes that are parsed before other requests have their turn."""
MAX_PARTS: Final = 8
MAX_HEAD_BYTES: Final = 8 << 10
"""Bytes of the headers of a part."""
MAX_PADDING_BYTES: Final = 256

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the word of RFC 9110
_TYPE: Final = re.compile(rf"[ \t]*({_TOKEN}(?:/{_TOKEN})?)[ \t]*")
_PARAMETER: Final = re.compile(rf';[ \t]*({_TOKEN})[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s;"]*)[ \t]*')
_ESCAPED: Final = re.compile(r"\\(.)")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_LINE_END: Final = b"\r\n"


async def read_parts(
    request: web.Request, limit_of: Callable[[str], int], max_bytes: int, arrived: Callable[[int], None]
) -> Mapping[str, bytearray]:
    """Return the content of the parts of a form, by name. The body as a whole has at most `max_bytes`.

    `limit_of` gets the name of each part, returns the bytes that its content may have, or raises an error. `arrived`
    gets the number of bytes of each step. Raises `ValidationFailed`, `PayloadTooLarge`, and what the two raise.
    """
    if (request.content_length or 0) > max_bytes:
        raise _too_large("The form", max_bytes)
    parser = FormParser(boundary_of(request.headers.get(CONTENT_TYPE, "")), limit_of)
    total = 0
    while data := await request.content.read(STEP_BYTES):
        total += len(data)
        if total > max_bytes:
            raise _too_large("The form", max_bytes)
        arrived(len(data))
        parser.feed(data)
        await asyncio.sleep(0)  # `read` does not wait while data is there
    return parser.finish()


class FormParser:
    """The parser of one form."""

    def __init__(self, boundary: str, limit_of: Callable[[str], int]) -> None:
        """See `read_parts`."""
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._limit_of = limit_of
        self._state = _State.DELIMITER
        self._rest = bytearray(_LINE_END)  # the first delimiter has no line before it
        self._parts: dict[str, bytearray] = {}
        self._content = bytearray()
        self._limit = 0
        self._name = ""

    def feed(self, data: bytes) -> None:
        """Parse what has arrived. Raises `ValidationFailed`, `PayloadTooLarge`, and the errors of `limit_of`."""
        if self._state is _State.END:
            return  # what follows the last delimiter has no meaning
        self._rest += data
        while self._step():
            pass

    def finish(self) -> Mapping[str, bytearray]:
        """Return the parts of a form that has arrived. Raises `ValidationFailed` without its last delimiter."""
        if self._state is not _State.END:
            raise malformed()
        return self._parts

    def _step(self) -> bool:
        """Parse one element. Return False when more data is needed for the next."""
        match self._state:
            case _State.DELIMITER:
                return self._read_delimiter()
            case _State.HEAD:
                return self._read_head()
            case _State.CONTENT:
                return self._read_content()
            case _State.END:
                return False

    def _read_delimiter(self) -> bool:
        """Expect a delimiter right here, so nothing may come before the first one."""
        rest, end = self._rest, len(self._delimiter)
        if not rest.startswith(self._delimiter):
            if not self._delimiter.startswith(rest):
                raise malformed()
            return False
        after = bytes(rest[end : end + MAX_PADDING_BYTES])
        if after.startswith(b"--"):
            self._state = _State.END
            rest.clear()
            return False
        padding, found, _ = after.partition(_LINE_END)
        if padding.strip(b" \t") not in (b"", b"-", b"\r") or len(padding) == MAX_PADDING_BYTES:
            raise malformed()
        if not found:
            return False
        if padding.strip(b" \t"):
            raise malformed()
        del rest[: end + len(padding) + len(found)]
        self._state = _State.HEAD
        return True

    def _read_head(self) -> bool:
        end = self._rest.find(_LINE_END * 2, 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._rest) >= MAX_HEAD_BYTES:
                raise malformed()
            return False
        self._name = _name_in(self._rest[:end].decode(errors="replace"))
        if self._name in self._parts or len(self._parts) == MAX_PARTS:
            raise malformed()
        self._limit = self._limit_of(self._name)
        self._content = self._parts[self._name] = bytearray()
        del self._rest[: end + len(_LINE_END * 2)]
        self._state = _State.CONTENT
        return True

    def _read_content(self) -> bool:
        found = self._rest.find(self._delimiter)
        # The last bytes may begin a delimiter. All before them is content, and is not searched again.
        end = found if found >= 0 else max(0, len(self._rest) - len(self._delimiter) + 1)
        if len(self._content) + end > self._limit:
            raise _too_large(self._name[:64], self._limit)
        self._content += self._rest[:end]
        del self._rest[:end]
        if found < 0:
            return False
        self._state = _State.DELIMITER
        return True


class _State(Enum):
    DELIMITER = auto()
    HEAD = auto()
    CONTENT = auto()
    END = auto()


def boundary_of(content_type: str) -> str:
    """Return the boundary that a `Content-Type` names. Raises `ValidationFailed` without a valid one."""
    boundary = _parameters(content_type).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise malformed()
    return boundary


def malformed() -> ValidationFailed:
    """Return the error of a body that is no form."""
    return ValidationFailed("The form is not well-formed.", details={"body": "no multipart form"})


def _name_in(head: str) -> str:
    """Return the name of a part. Raises `ValidationFailed` if its headers give none, or more than one."""
    names = []
    for line in head.split("\r\n"):
        field, colon, value = line.partition(":")
        if not colon:
            raise malformed()
        if field.strip(" \t").lower() == "content-disposition":
            names.append(_parameters(value).get("name", ""))
    if len(names) != 1 or not names[0]:
        raise malformed()
    return names[0]


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header, such as `boundary`. Raises `ValidationFailed`."""
    found: dict[str, str] = {}
    parsed = _TYPE.match(value)
    while parsed is not None and parsed.end() < len(value) and value[parsed.end() :].strip(" \t;"):
        parsed = _PARAMETER.match(value, parsed.end())
        if parsed is None or parsed[1].lower() in found:
            raise malformed()
        text = parsed[2]
        found[parsed[1].lower()] = _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text
    if parsed is None:
        raise malformed()
    return found


def _too_large(what: str, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"{what} is over {limit} bytes.", details={"limit": limit})
