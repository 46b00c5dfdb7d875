"""JSON bodies of webhooks: decoded so that a detail that nobody reads loses no event, and errors without any value."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

SCHEMA_MISMATCH: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""The errors that decoding a body may raise; `msgspec.ValidationError` is a subclass of the first."""

MAX_DEPTH: Final = 16
"""Levels of a stored document. MariaDB accepts 32, MySQL 100."""
MAX_NAME_LENGTH: Final = 255
CUT: Final = "(nested too deeply)"
_INTEGERS: Final = range(-(2**63), 2**64)
"""The integers that every database and every JSON library here can hold."""

_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_VALUE: Final = re.compile(r"(?<=Invalid enum value ).*")
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
"""An escape of a JSON string. The group matches half of a surrogate pair without its other half."""

Decoded = TypeVar("Decoded")


def decode_body(decoder: msgspec.json.Decoder[Decoded], body: bytes) -> Decoded:
    """Return the decoded body. Raises one of `SCHEMA_MISMATCH`.

    JavaScript cuts a text in the middle of an emoji and sends half of it. It is read as U+FFFD.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        whole = _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)
        if whole == body:
            raise
        return decoder.decode(whole)


def storable_document(raw: msgspec.Raw) -> dict[str, object]:
    """Return the JSON object `raw` in a form that every database accepts; the broker keeps the original.

    Deeper levels are cut, integers over 64 bits become text. What cannot be read at all, or is no object, is replaced.
    """
    try:
        document = msgspec.json.decode(raw)
    except SCHEMA_MISMATCH as error:
        return {"unreadable": field_and_reason(error)[1]}
    return _storable_object(document, MAX_DEPTH) if isinstance(document, dict) else {"unreadable": "no object"}


def _storable_object(document: Mapping[str, object], depth: int) -> dict[str, object]:
    return {name[:MAX_NAME_LENGTH]: _storable(value, depth - 1) for name, value in document.items()}


def _storable(value: object, depth: int) -> object:
    if isinstance(value, dict | list) and not depth:
        return CUT
    if isinstance(value, dict):
        return _storable_object(value, depth)
    if isinstance(value, list):
        return [_storable(each, depth - 1) for each in value]
    return str(value) if isinstance(value, int) and value not in _INTEGERS else value


def field_and_reason(error: Exception) -> tuple[str, str]:
    """Return the dotted name of the field, or `body`, and the reason. `error` is one of `SCHEMA_MISMATCH`."""
    if isinstance(error, UnicodeDecodeError):
        return "body", "not UTF-8"
    if isinstance(error, RecursionError):
        return "body", "nested too deeply"
    if not isinstance(error, msgspec.ValidationError):
        return "body", "not JSON"
    text = str(error)
    path = _PATH.search(text)
    reason = _VALUE.sub("", _PATH.sub("", text)).strip()
    return (path[1] if path and path[1] else "body"), reason
