"""A line for each event that passes: what the door answered and what the inbox says became of it."""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_devstack.backends.stack import Say

# What the door wrote into `app.log` about each webhook: followed as it grows, whichever process writes it.


MAX_BYTES: Final = 1 << 20
"""Read at one look; what a burst wrote beyond that is read at the next."""

_LINE: Final = re.compile(r"(\S+ \S+) \S+ webhook-ingest (\S+) Webhook signature \w+ (.*)")
_PAIR: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


@dataclass(frozen=True, slots=True)
class ReceivedWebhook:
    """One webhook as the door answered it. `code` is `-` when it was taken."""

    at: str
    """As the log has it: `2026-11-24 22:04:40.264Z`, which sorts by time."""
    code: str
    details: dict[str, str]

    @property
    def accepted(self) -> bool:
        """Whether it was answered 2xx."""
        return self.details.get("outcome") == "accepted"


class IngestLogTail:
    """What happened from now on; a line of before that is still on its way to the file is left out."""

    def __init__(self, path: Path, now: datetime) -> None:
        self._path = path
        self._since = now.isoformat(" ", timespec="milliseconds").replace("+00:00", "Z")
        self._offset = path.stat().st_size if path.exists() else 0

    def read(self) -> list[ReceivedWebhook]:
        """What was added since the last look, whole lines only."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # it was rotated away
                self._offset = 0
            file.seek(self._offset)
            added = file.read(MAX_BYTES)
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [arrival for arrival in _arrivals(whole.decode(errors="replace")) if arrival.at > self._since]


def _arrivals(text: str) -> Iterator[ReceivedWebhook]:
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            at, code, pairs = match.groups()
            yield ReceivedWebhook(at, code, {name: _value(value) for name, value in _PAIR.findall(pairs)})


def _value(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


POLL_SECONDS: Final = 0.3
MAX_LINES_PER_POLL: Final = 20
"""More than that nobody reads; the rest of a burst is counted, and not looked up."""

MAX_POLLS_FOR_OUTCOME: Final = 30


@dataclass(frozen=True, slots=True)
class PendingOutcome:
    """An accepted webhook whose outcome is not known yet, and how often it was looked for."""

    arrival: ReceivedWebhook
    looks: int = 0


class EventFeed:
    """Tells of what happens after it was made. A database that is away costs outcomes, never the run."""

    def __init__(self, door: IngestLogTail, database: Database, say: Say) -> None:
        self._door = door
        self._database = database
        self._say = say
        self._followed: list[PendingOutcome] = []

    async def tell(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Say what has happened since the last look."""
        arrivals = self._door.read()
        for arrival in arrivals[:MAX_LINES_PER_POLL]:
            if arrival.accepted:
                self._followed.append(PendingOutcome(arrival))
            else:
                self._line(arrival, f"refused: {arrival.code} ({arrival.details.get('reason', '')})")
        if len(arrivals) > MAX_LINES_PER_POLL:
            self._say(f"… and {len(arrivals) - MAX_LINES_PER_POLL} more")
        self._followed = [still for each in self._followed if (still := await self._follow(each))]

    async def _follow(self, followed: PendingOutcome) -> PendingOutcome | None:
        outcome = await self._outcome(followed.arrival)
        if outcome is None and followed.looks < MAX_POLLS_FOR_OUTCOME:
            return PendingOutcome(followed.arrival, followed.looks + 1)
        self._line(followed.arrival, outcome or "accepted, not decided yet")
        return None

    async def _outcome(self, arrival: ReceivedWebhook) -> str | None:
        try:
            async with self._database.read_connection() as connection:
                rows = await inbox_queries.get_by_event_id(connection, arrival.details["event_id"])
        except SafeVideoError:
            return None
        return _became(arrival, rows)

    def _line(self, arrival: ReceivedWebhook, became: str) -> None:
        about = f"{arrival.details.get('type', '-'):<26}  {arrival.details.get('performer', '-'):<20}"
        self._say(f"{arrival.at[11:19]}  {about}  {became}")


def _became(arrival: ReceivedWebhook, rows: Sequence[inbox_queries.InboxRecord]) -> str | None:
    if not rows:
        return None
    if rows[0].request_id != arrival.details.get("request_id"):
        return "duplicate"  # the inbox knows the event by its first delivery
    return f"{rows[0].status} ({rows[0].reason})" if rows[0].reason else str(rows[0].status)
