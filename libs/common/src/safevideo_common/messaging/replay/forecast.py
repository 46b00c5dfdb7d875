"""A dry run: what a real one would do, decided in memory on states that nobody locks."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import inbox
from safevideo_common.domain.outcomes import Outcome
from safevideo_common.messaging.consuming.consumer import verdict_on
from safevideo_common.messaging.consuming.deciding import Parsed, decide, events_of
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.effects import subjects_of
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.replay.cursor import KNOWN
from safevideo_common.messaging.replay.port import Differences, Replayable
from safevideo_common.messaging.replay.verdicts import verdicts

MOST_PERFORMERS: Final = 20_000
"""Whose states are carried from batch to batch, some 2 kB each. Beyond it the forecast begins anew from what is stored,
and is not exact for a performer who comes again."""
MOST_IDS: Final = 200_000
"""Of events that are remembered, to recognise their redeliveries."""


class Recent:
    """The ids that came last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        """One more; the oldest is forgotten where there is no room."""
        self._ids[event_id] = None
        if len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]


class Forecast(Generic[Event, States]):
    """Of one partition, whose events are all those of their performers: so nothing is carried to the next one."""

    def __init__(
        self,
        handler: Replayable[Event, States],
        group: str,
        *,
        is_forced: bool,
        most_shown: int,
        most_performers: int = MOST_PERFORMERS,
    ) -> None:
        """`most_shown` is how many performers' differences are kept to be shown."""
        self._handler = handler
        self._group = group
        self._is_forced = is_forced
        self._most_shown = most_shown
        self._most_performers = most_performers
        self._states: States | None = None
        self._seen = Recent(MOST_IDS)
        self._parked: set[str] = set()
        self._subjects: set[str] = set()
        self.shown: dict[str, Differences] = {}
        self.changing = 0
        """Performers that would change. Like `shown` it is complete once the forecast is finished."""
        self.is_exact = True
        """Whether all states could be carried."""

    async def foresee(self, reading: AsyncConnection, deliveries: Sequence[Delivery]) -> Counter[str]:
        """What would become of these, the next in order: how many of each outcome."""
        for event_id in await inbox.known(reading, self._group, (each.envelope.id for each in deliveries)):
            self._seen.add(event_id)
        wanted = [each for each in deliveries if self._is_forced or each.envelope.id not in self._seen]
        parsed = [Parsed(each, self._parse(each)) for each in wanted]
        subjects = subjects_of(parsed)
        unmet = subjects - self._subjects
        self._make_room(subjects)
        self._parked |= await inbox.parked(reading, self._group, unmet)
        states = self._states = await self._handler.foresee(reading, events_of(parsed), self._states)
        decided = verdicts(
            lambda each: self._decide(states, each), parsed, self._seen, self._parked, is_forced=self._is_forced
        )
        outcomes = Counter(KNOWN if each.outcome is None else str(each.outcome.status) for each in decided)
        outcomes[KNOWN] += len(deliveries) - len(wanted)
        return +outcomes

    def finish(self) -> None:
        """There is no more: what the last performers have come to is taken in."""
        if self._states is None:
            return
        differences = self._handler.differences(self._states)
        self.changing += len(differences)
        for name, each in differences.items():
            if len(self.shown) < self._most_shown:
                self.shown[name] = each
        self._states = None

    def _make_room(self, subjects: set[str]) -> None:
        self._subjects |= subjects
        if len(self._subjects) > self._most_performers:
            self.finish()
            self._subjects, self.is_exact = subjects, False

    # Whatever a handler raises, a real run narrows down to its event, which is dead then.

    def _parse(self, delivery: Delivery) -> Event | Outcome:
        try:
            return delivery.fault or self._handler.parse(delivery)
        except Exception as error:  # noqa: BLE001
            return verdict_on(error)

    def _decide(self, states: States, parsed: Parsed[Event]) -> Outcome:
        try:
            return decide(self._handler, states, parsed)
        except Exception as error:  # noqa: BLE001
            return verdict_on(error)
