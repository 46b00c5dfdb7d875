"""A line for each event that passes: what the door answered and what the inbox says became of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_devstack.backends.stack import Say
from safevideo_devstack.run.door_log import Arrival, DoorLog

LOOK_SECONDS: Final = 0.3
LINES_A_LOOK: Final = 20
"""More than that nobody reads; the rest of a burst is counted, and not looked up."""

LOOKS_FOR_OUTCOME: Final = 30


@dataclass(frozen=True, slots=True)
class Followed:
    """An accepted webhook whose outcome is not known yet, and how often it was looked for."""

    arrival: Arrival
    looks: int = 0


class Narrator:
    """Tells of what happens after it was made. A database that is away costs outcomes, never the run."""

    def __init__(self, door: DoorLog, database: Database, say: Say) -> None:
        self._door = door
        self._database = database
        self._say = say
        self._followed: list[Followed] = []

    async def tell(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Say what has happened since the last look."""
        arrivals = self._door.read()
        for arrival in arrivals[:LINES_A_LOOK]:
            if arrival.accepted:
                self._followed.append(Followed(arrival))
            else:
                self._line(arrival, f"refused: {arrival.code} ({arrival.details.get('reason', '')})")
        if len(arrivals) > LINES_A_LOOK:
            self._say(f"… and {len(arrivals) - LINES_A_LOOK} more")
        self._followed = [still for each in self._followed if (still := await self._follow(each))]

    async def _follow(self, followed: Followed) -> Followed | None:
        outcome = await self._outcome(followed.arrival)
        if outcome is None and followed.looks < LOOKS_FOR_OUTCOME:
            return Followed(followed.arrival, followed.looks + 1)
        self._line(followed.arrival, outcome or "accepted, not decided yet")
        return None

    async def _outcome(self, arrival: Arrival) -> str | None:
        try:
            async with self._database.reading() as connection:
                rows = await inbox_queries.get_by_event_id(connection, arrival.details["event_id"])
        except SafeVideoError:
            return None
        return _became(arrival, rows)

    def _line(self, arrival: Arrival, became: str) -> None:
        about = f"{arrival.details.get('type', '-'):<26}  {arrival.details.get('performer', '-'):<20}"
        self._say(f"{arrival.at[11:19]}  {about}  {became}")


def _became(arrival: Arrival, rows: Sequence[inbox_queries.InboxRecord]) -> str | None:
    if not rows:
        return None
    if rows[0].request_id != arrival.details.get("request_id"):
        return "duplicate"  # the inbox knows the event by its first delivery
    return f"{rows[0].status} ({rows[0].reason})" if rows[0].reason else str(rows[0].status)
