"""How a log line looks: one JSON object for containers, one text line for the operator's grep (contract, §14)."""

import re
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from time import time_ns
from typing import Final

import orjson

_PLACED: Final = frozenset({"timestamp", "level", "service", "code", "event"})
_SECRET: Final = re.compile("secret|token|password|authorization|signature|api_key|email|document")
_BARE: Final = re.compile(r"[!#-<>-~]+")  # visible ASCII without the quote and the equals sign


def json_line(event: Mapping[str, object]) -> bytes:
    """The event as one line of JSON; what JSON has no form for is written as its `str`."""
    return orjson.dumps(event, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def text_line(event: Mapping[str, object]) -> bytes:
    """`DATE TIME LEVEL SERVICE CODE message key=value …`: the fifth column is the code, `-` where there is none."""
    date, _, time = str(event["timestamp"]).partition("T")
    pairs = "".join(f" {key}={_value(value)}" for key, value in event.items() if key not in _PLACED)
    message = str(event["event"]).replace("\n", "\\n")
    level = str(event["level"]).upper()
    return f"{date} {time} {level} {event['service']} {event.get('code', '-')} {message}{pairs}\n".encode(
        "utf-8", "backslashreplace"
    )


class TimestampFormatter:
    """Moments as `2026-11-24T20:58:25.123Z`. Each millisecond is formatted once, and its second once a second."""

    def __init__(self) -> None:
        self._second = self._millisecond = -1
        self._until_second = self._text = ""

    def now(self) -> str:
        """The present moment, in UTC."""
        millisecond = time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            self._text = f"{self._whole_second(millisecond // 1000)}.{millisecond % 1000:03d}Z"
        return self._text

    def _whole_second(self, second: int) -> str:
        if second != self._second:
            self._second = second
            self._until_second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return self._until_second


_harmless: Final[set[str]] = set()
"""Keys that were looked at and do not sound like a secret: there are as many as the code has."""


def redacted(event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """`event` with the value of each key that sounds like a secret or personal data replaced."""
    if not event.keys() <= _harmless:
        for key in event:
            if _SECRET.search(key):
                event[key] = "[redacted]"
            else:
                _harmless.add(key)
    return event


def _value(value: object) -> str:
    """Bare where that is unambiguous; else as JSON, so that nothing from outside can forge a line or a key."""
    text = value if isinstance(value, str) else str(value)
    return text if _BARE.fullmatch(text) else orjson.dumps(text).decode()
