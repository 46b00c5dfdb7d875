"""Errors in a body that does not match its schema, described without repeating any of its values."""

import re
from typing import Final

import msgspec

SCHEMA_MISMATCH: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""The errors that decoding a body may raise; `msgspec.ValidationError` is a subclass of the first."""

_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_VALUE: Final = re.compile(r"(?<=Invalid enum value ).*")


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
