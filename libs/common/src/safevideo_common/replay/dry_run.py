"""A dry run: what is read is foreseen, partition by partition, and nothing is written but the job's own row."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.domain.outcomes import Outcome
from safevideo_common.inbox.decisions import Parsed, decide, events_of
from safevideo_common.inbox.handler import Delivery, Differences, Event, ReplayableHandler, States
from safevideo_common.inbox.processor import describe_outcome, subjects_of
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.replay.context import ReplayContext
from safevideo_common.replay.plan import KNOWN, ReplayCheckpoint
from safevideo_common.replay.policies import classify
from safevideo_common.replay.reader import prefetch

# A dry run: what a real one would do, decided in memory on states that nobody locks.


MAX_REPORTED_PERFORMERS: Final = 20_000
"""Whose states are carried from batch to batch, some 2 kB each. Beyond it the forecast begins anew from what is stored,
and is not exact for a performer who comes again."""
MAX_REMEMBERED_IDS: Final = 200_000
"""Of events that are remembered, to recognise their redeliveries."""


class LruStates:
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


class DryRun(Generic[Event, States]):
    """Of one partition, whose events are all those of their performers: so nothing is carried to the next one."""

    def __init__(
        self,
        handler: ReplayableHandler[Event, States],
        group: str,
        *,
        is_forced: bool,
        most_shown: int,
        most_performers: int = MAX_REPORTED_PERFORMERS,
    ) -> None:
        """`most_shown` is how many performers' differences are kept to be shown."""
        self._handler = handler
        self._group = group
        self._is_forced = is_forced
        self._most_shown = most_shown
        self._most_performers = most_performers
        self._states: States | None = None
        self._seen = LruStates(MAX_REMEMBERED_IDS)
        self._parked: set[str] = set()
        self._subjects: set[str] = set()
        self.shown: dict[str, Differences] = {}
        self.changing = 0
        """Performers that would change. Like `shown` it is complete once the forecast is finished."""
        self.is_exact = True
        """Whether all states could be carried."""

    async def foresee(self, reading: AsyncConnection, deliveries: Sequence[Delivery]) -> Counter[str]:
        """What would become of these, the next in order: how many of each outcome."""
        for event_id in await inbox_rows.existing_ids(reading, self._group, (each.envelope.id for each in deliveries)):
            self._seen.add(event_id)
        wanted = [each for each in deliveries if self._is_forced or each.envelope.id not in self._seen]
        parsed = [Parsed(each, self._parse(each)) for each in wanted]
        subjects = subjects_of(parsed)
        unmet = subjects - self._subjects
        self._make_room(subjects)
        self._parked |= await inbox_rows.blocked_subjects(reading, self._group, unmet)
        states = self._states = await self._handler.foresee(reading, events_of(parsed), self._states)
        decided = classify(
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
            return describe_outcome(error)

    def _decide(self, states: States, parsed: Parsed[Event]) -> Outcome:
        try:
            return decide(self._handler, states, parsed)
        except Exception as error:  # noqa: BLE001
            return describe_outcome(error)


MAX_SHOWN: Final = 100
"""Performers with their changes in the result."""
SHOWN_CHARACTERS: Final = 200
"""Of a text there."""


@dataclass(frozen=True, slots=True)
class DryRunPartition(Generic[Event, States]):
    """See `PartitionWork`. A forecast lives in memory: of a partition that is cut off it begins anew."""

    run: ReplayContext[Event, States]

    async def do(self, partition: TopicPartition, reader: Reader) -> None:
        """See `PartitionWork`."""
        run, number = self.run, partition.partition
        part = run.ahead[number] = run.cursor.alone(number)
        try:
            await self._foresee(partition, reader, part)
        finally:
            del run.ahead[number]
        run.cursor.take_in(part, MAX_SHOWN)
        await run.save()

    async def _foresee(self, partition: TopicPartition, reader: Reader, part: ReplayCheckpoint) -> None:
        run, number = self.run, partition.partition
        forecast = DryRun(run.handler, run.consumer.group, is_forced=run.asked.force, most_shown=MAX_SHOWN)
        start, end = part.next[str(number)], part.ends[str(number)]
        async with prefetch(reader, partition, start, end) as chunks:
            while chunk := await chunks.next():
                part.missed(number, chunk.start)
                if deliveries := run.wanted(chunk):
                    async with run.consumer.database.read_connection() as reading:
                        outcomes = await forecast.foresee(reading, deliveries)
                    part.count(Counter(each.envelope.type for each in deliveries), outcomes)
                part.reached(number, chunk.end)
                await run.save_now_and_then()
                await run.pace.rest(len(deliveries), run.job.raise_if_stopped)
        forecast.finish()
        part.performers = [{"performerId": name, "changes": shown(each)} for name, each in forecast.shown.items()]
        part.performers_changing, part.is_exact = forecast.changing, forecast.is_exact


def shown(differences: Differences) -> dict[str, object]:
    """As the result has them: long texts are cut."""
    return {name: {"from": _cut(before), "to": _cut(after)} for name, (before, after) in differences.items()}


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return value[:SHOWN_CHARACTERS] + "…"
    return value
