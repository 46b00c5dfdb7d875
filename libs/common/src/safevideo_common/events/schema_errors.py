"""What is wrong with a body that does not have its event's shape, told without repeating any of its values."""

import re
from typing import Final

import msgspec

SCHEMA_MISMATCH: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What decoding a body may raise; `msgspec.ValidationError` is among them by inheritance."""

_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_VALUE: Final = re.compile(r"(?<=Invalid enum value ).*")


def field_and_reason(error: Exception) -> tuple[str, str]:
    """The dotted name of the field, or `body`, and why it was refused. `error` is one of `SCHEMA_MISMATCH`."""
    if isinstance(error, UnicodeDecodeError):
        return "body", "not UTF-8"
    if isinstance(error, RecursionError):
        return "body", "nested too deeply"
    if not isinstance(error, msgspec.ValidationError):
        return "body", "not JSON"
    text = str(error)
    place = _PLACE.search(text)
    reason = _VALUE.sub("", _PLACE.sub("", text)).strip()
    return (place[1] if place and place[1] else "body"), reason
