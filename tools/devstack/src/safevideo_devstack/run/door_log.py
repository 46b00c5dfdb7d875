"""What the door wrote into `app.log` about each webhook: followed as it grows, whichever process writes it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 1 << 20
"""Read at one look; what a burst wrote beyond that is read at the next."""

_LINE: Final = re.compile(r"(\S+ \S+) \S+ webhook-ingest (\S+) Webhook signature \w+ (.*)")
_PAIR: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


@dataclass(frozen=True, slots=True)
class Arrival:
    """One webhook as the door answered it. `code` is `-` when it was taken."""

    at: str
    """As the log has it: `2026-11-24 22:04:40.264Z`, which sorts by time."""
    code: str
    details: dict[str, str]

    @property
    def accepted(self) -> bool:
        """Whether it was answered 2xx."""
        return self.details.get("outcome") == "accepted"


class DoorLog:
    """What happened from now on; a line of before that is still on its way to the file is left out."""

    def __init__(self, path: Path, now: datetime) -> None:
        self._path = path
        self._since = now.isoformat(" ", timespec="milliseconds").replace("+00:00", "Z")
        self._offset = path.stat().st_size if path.exists() else 0

    def read(self) -> list[Arrival]:
        """What was added since the last look, whole lines only."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # it was rotated away
                self._offset = 0
            file.seek(self._offset)
            added = file.read(MOST_BYTES)
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [arrival for arrival in _arrivals(whole.decode(errors="replace")) if arrival.at > self._since]


def _arrivals(text: str) -> Iterator[Arrival]:
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            at, code, pairs = match.groups()
            yield Arrival(at, code, {name: _value(value) for name, value in _PAIR.findall(pairs)})


def _value(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text
