"""A dry run of a partition: decide its events in memory, on states that are not locked, and write nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.domain.outcomes import Outcome
from safevideo_common.inbox.handler import Delivery, Differences, Event, ReplayableHandler, States
from safevideo_common.inbox.identity import identify
from safevideo_common.inbox.processor import (
    Parsed,
    decide,
    decide_in_order,
    describe_error,
    events_of,
    parsed_as_first,
    subjects_of,
    without_erased,
)
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import ExistingRow
from safevideo_common.replay.context import MAX_REPORTED_PERFORMERS, ReplayContext, count_types
from safevideo_common.replay.plan import KNOWN_OUTCOME
from safevideo_common.replay.policies import count_outcomes
from safevideo_common.replay.reader import prefetch

MAX_PERFORMERS: Final = 20_000
"""Performers whose states are in memory, about 2 kB each. Beyond it the dry run begins again from the stored states,
and is not exact for a performer that appears again."""
MAX_RECENT_IDS: Final = 200_000
"""Event ids in memory, to recognise redeliveries."""
MAX_TEXT_LENGTH: Final = 200
"""A longer text is cut in the result."""


class RecentIds:
    """A bounded set of event ids: the oldest leaves first."""

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._ids: dict[str, None] = {}

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        """Add an id."""
        self._ids[event_id] = None
        if len(self._ids) > self._max_ids:
            del self._ids[next(iter(self._ids))]


class DryRun(Generic[Event, States]):
    """The dry run of one partition. All events of a performer are in one partition, so no state leaves it."""

    def __init__(
        self,
        handler: ReplayableHandler[Event, States],
        group: str,
        *,
        is_forced: bool,
        max_reported: int,
        max_performers: int = MAX_PERFORMERS,
    ) -> None:
        """`max_reported` limits the performers in `differences`."""
        self._handler = handler
        self._group = group
        self._is_forced = is_forced
        self._max_reported = max_reported
        self._max_performers = max_performers
        self._states: States | None = None
        self._seen_ids = RecentIds(MAX_RECENT_IDS)
        self._blocked: set[str] = set()
        self._subjects: set[str] = set()
        self.differences: dict[str, Differences] = {}
        self.changing = 0
        """Performers that would change. Like `differences` it is complete after `finish`."""
        self.is_exact = True
        """False if there were more than `max_performers`."""

    async def preview(self, connection: AsyncConnection, deliveries: Sequence[Delivery]) -> Counter[str]:
        """Decide the next deliveries, and count them by outcome."""
        deliveries, existing = await identify(connection, self._group, deliveries)
        for event_id in existing:
            self._seen_ids.add(event_id)
        to_decide = [each for each in deliveries if self._is_forced or each.envelope.id not in self._seen_ids]
        parsed: Sequence[Parsed[Event]] = [
            self._as_first(Parsed(each, self._parse(each)), existing) for each in to_decide
        ]
        parsed = await without_erased(connection, parsed)
        subjects = subjects_of(parsed)
        new_subjects = subjects - self._subjects
        self._make_room(subjects)
        self._blocked |= await inbox_rows.blocked_subjects(connection, self._group, new_subjects)
        self._states = await self._handler.load_for_preview(connection, events_of(parsed), self._states)
        decide_one = partial(self._decide, self._states)
        outcomes = count_outcomes(
            decide_in_order(decide_one, parsed, self._seen_ids, self._blocked, decide_again=self._is_forced)
        )
        outcomes[KNOWN_OUTCOME] += len(deliveries) - len(to_decide)
        return +outcomes

    def finish(self) -> None:
        """Collect the differences of the states in memory, and forget these states."""
        if self._states is None:
            return
        differences = self._handler.diff(self._states)
        self.changing += len(differences)
        for name, each in differences.items():
            if len(self.differences) < self._max_reported:
                self.differences[name] = each
        self._states = None

    def _make_room(self, subjects: set[str]) -> None:
        self._subjects |= subjects
        if len(self._subjects) > self._max_performers:
            self.finish()
            self._subjects, self.is_exact = subjects, False

    # A real replay bisects the batch after an error of the handler, and dead-letters the event that causes it.

    def _parse(self, delivery: Delivery) -> Event | Outcome:
        try:
            return delivery.fault or self._handler.parse(delivery)
        except Exception as error:  # noqa: BLE001
            return describe_error(error)

    def _as_first(self, parsed: Parsed[Event], existing: Mapping[str, ExistingRow]) -> Parsed[Event]:
        return parsed_as_first(self._handler, parsed, existing.get(parsed.delivery.envelope.id))

    def _decide(self, states: States, parsed: Parsed[Event]) -> Outcome:
        try:
            return decide(self._handler, states, parsed)
        except Exception as error:  # noqa: BLE001
            return describe_error(error)


@dataclass(frozen=True, slots=True)
class DryRunPartition(Generic[Event, States]):
    """Previews partitions, one after the other. An interrupted partition begins again."""

    context: ReplayContext[Event, States]

    async def run(self, partition: TopicPartition, reader: Reader) -> None:
        """See `PartitionReplay`."""
        context, number = self.context, partition.partition
        dry_run = DryRun(
            context.handler,
            context.consumer.group,
            is_forced=context.request.force,
            max_reported=MAX_REPORTED_PERFORMERS,
        )
        with context.preview(partition) as part:
            async with prefetch(reader, partition, *context.remaining_range(partition)) as chunks:
                while chunk := await chunks.next():
                    part.skip_deleted(number, chunk.start)
                    if deliveries := context.matching(chunk):
                        async with context.consumer.database.read_connection() as connection:
                            outcomes = await dry_run.preview(connection, deliveries)
                        part.count(count_types(deliveries), outcomes)
                    part.advance_to(number, chunk.end)
                    await context.maybe_save()
                    await context.throttle(len(deliveries))
            dry_run.finish()
            part.performers = [
                {"performerId": name, "changes": changes_document(each)} for name, each in dry_run.differences.items()
            ]
            part.performers_changing, part.is_exact = dry_run.changing, dry_run.is_exact
        await context.save()


def changes_document(differences: Differences) -> dict[str, object]:
    """Return differences for the result of a dry run, with long texts cut."""
    return {name: {"from": _cut(before), "to": _cut(after)} for name, (before, after) in differences.items()}


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH:
        return value[:MAX_TEXT_LENGTH] + "…"
    return value
