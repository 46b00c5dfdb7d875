"""A feed of events: a line for each webhook, with the answer of webhook-ingest and the outcome in the inbox.

Refused webhooks and repeated deliveries have no row of their own in the inbox. So the feed follows `app.log`, whichever
process writes it, and looks up the outcomes.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_devstack.backends.stack import Say

POLL_SECONDS: Final = 0.3
MAX_BYTES_PER_POLL: Final = 1 << 20
MAX_LINES_PER_POLL: Final = 20
"""Nobody reads more than that; the rest of a burst is counted, and not looked up."""

MAX_POLLS_FOR_OUTCOME: Final = 30

_LINE: Final = re.compile(r"(\S+ \S+) \S+ webhook-ingest (\S+) Webhook signature \w+ (.*)")
_PAIR: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


@dataclass(frozen=True, slots=True)
class ReceivedWebhook:
    """A webhook and the answer of webhook-ingest. `code` is `-` when it was accepted."""

    received_at: str
    """The time in the log's own form: `2026-11-24 22:04:40.264Z`, which sorts by time."""
    code: str
    details: dict[str, str]

    @property
    def accepted(self) -> bool:
        """True when the answer was 2xx."""
        return self.details.get("outcome") == "accepted"


class IngestLogTail:
    """The webhooks that `app.log` reports after `now`, also when an older line reaches the file late."""

    def __init__(self, path: Path, now: datetime) -> None:
        self._path = path
        self._since = now.isoformat(" ", timespec="milliseconds").replace("+00:00", "Z")
        self._offset = path.stat().st_size if path.exists() else 0

    def read(self) -> list[ReceivedWebhook]:
        """Return the webhooks of the lines that were added since the last read, whole lines only."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # the file was rotated
                self._offset = 0
            file.seek(self._offset)
            added = file.read(MAX_BYTES_PER_POLL)
        lines = added[: added.rfind(b"\n") + 1]
        self._offset += len(lines)
        return [each for each in _parse(lines.decode(errors="replace")) if each.received_at > self._since]


class EventFeed:
    """Prints a line for each webhook. A database that is unavailable costs outcomes, never the run."""

    def __init__(self, tail: IngestLogTail, database: Database, say: Say) -> None:
        self._tail = tail
        self._database = database
        self._say = say
        self._pending: list[tuple[ReceivedWebhook, int]] = []
        """Accepted webhooks without an outcome so far, and for how many more polls to look it up."""

    async def run(self) -> None:
        """Print lines until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            webhooks = self._tail.read()
            for webhook in webhooks[:MAX_LINES_PER_POLL]:
                if webhook.accepted:
                    self._pending.append((webhook, MAX_POLLS_FOR_OUTCOME))
                else:
                    self._print(webhook, f"refused: {webhook.code} ({webhook.details.get('reason', '')})")
            if len(webhooks) > MAX_LINES_PER_POLL:
                self._say(f"… and {len(webhooks) - MAX_LINES_PER_POLL} more")
            await self._print_outcomes()

    async def _print_outcomes(self) -> None:
        still_pending = []
        for webhook, polls in self._pending:
            outcome = await self._outcome(webhook)
            if outcome or not polls:
                self._print(webhook, outcome or "accepted, not decided yet")
            else:
                still_pending.append((webhook, polls - 1))
        self._pending = still_pending

    async def _outcome(self, webhook: ReceivedWebhook) -> str | None:
        try:
            async with self._database.read_connection() as connection:
                rows = await inbox_queries.get_by_event_id(connection, webhook.details["event_id"])
        except SafeVideoError:
            return None
        if not rows:
            return None
        if rows[0].request_id != webhook.details.get("request_id"):
            return "duplicate"  # the inbox has the request id of the first delivery
        return f"{rows[0].status} ({rows[0].reason})" if rows[0].reason else str(rows[0].status)

    def _print(self, webhook: ReceivedWebhook, outcome: str) -> None:
        subject = f"{webhook.details.get('type', '-'):<26}  {webhook.details.get('performer', '-'):<20}"
        self._say(f"{webhook.received_at[11:19]}  {subject}  {outcome}")


def _parse(text: str) -> Iterator[ReceivedWebhook]:
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            received_at, code, pairs = match.groups()
            yield ReceivedWebhook(received_at, code, {name: _value(value) for name, value in _PAIR.findall(pairs)})


def _value(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text
