"""What Sharegram's events do to the performers mirrored here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database import performers
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.domain.performers import DEFAULTS, FIELDS, Performer, applied_fields, decide
from safevideo_common.events.change_events import PerformerChange, performer_changed
from safevideo_common.inbox.handler import Delivery, Differences
from sync_worker.performers.parsing import PerformerEvent, parse_performer


class CacheInvalidator(Protocol):
    """Where a performer's cached value is dropped after a write."""

    async def drop(self, performer_ids: Collection[int]) -> None:
        """Drop them, now or by and by. Must not raise."""
        ...


WIRE_NAMES: Final = {name: name for name in FIELDS} | {"display_name": "displayName", "profile_image": "profileImage"}


class AppliedChange(NamedTuple):
    """An event that was applied, and the performer around it."""

    before: Performer
    after: Performer
    event: PerformerEvent


@dataclass(slots=True)
class PerformerStates:
    """The performers of a batch, by Sharegram id. One that is not stored is new."""

    stored: dict[str, LockedPerformer]
    current: dict[str, Performer]
    changed: set[str] = field(default_factory=set)
    applied: list[AppliedChange] = field(default_factory=list)


class PerformerHandler:
    """The handler of `sharegram.performer.v1`.

    A redelivered event changes nothing, but its performer's cached values are dropped again: the first delivery may
    have been cut off between its commit and that.
    """

    def __init__(self, clock: Clock, drops: CacheInvalidator) -> None:
        self._clock = clock
        self._drops = drops

    def parse(self, delivery: Delivery) -> PerformerEvent | Outcome:
        """See `parse_performer`."""
        return parse_performer(delivery)

    async def load(self, tx: AsyncConnection, events: Sequence[PerformerEvent]) -> PerformerStates:
        """The performers that the events are about, locked; one that is not here yet is made by its first event."""
        stored = await performers.load_for_update(tx, {event.sharegram_id for event in events})
        return PerformerStates(dict(stored), {name: row.performer for name, row in stored.items()})

    async def foresee(
        self, reading: AsyncConnection, events: Sequence[PerformerEvent], earlier: PerformerStates | None
    ) -> PerformerStates:
        """The same without locks, added to what `earlier` events of the forecast have left."""
        states = earlier or PerformerStates({}, {})
        states.applied.clear()
        names = {event.sharegram_id for event in events}
        found = await performers.load(reading, names - states.current.keys())
        states.stored |= found
        states.current |= {name: row.performer for name, row in found.items()}
        return states

    def decide(self, states: PerformerStates, event: PerformerEvent) -> Outcome:
        """As the domain says."""
        before = states.current.get(event.sharegram_id) or Performer(event.sharegram_id)
        after, outcome = decide(before, event.patch)
        if outcome.status is Status.APPLIED:
            states.current[event.sharegram_id] = after
            states.changed.add(event.sharegram_id)
            states.applied.append(AppliedChange(before, after, event))
        return outcome

    async def store(self, tx: AsyncConnection, states: PerformerStates) -> None:
        """Write the performers that changed, in one order for every worker: it keeps deadlocks rare.

        A performer that did not change, with equal write versions, is not written: its events were applied again.
        """
        now = self._clock()
        changed = sorted(states.changed)
        new = [name for name in changed if name not in states.stored]
        updated = [
            LockedPerformer(row.id, states.current[name])
            for name in changed
            if (row := states.stored.get(name)) and row.performer != states.current[name]
        ]
        await performers.update(tx, updated, now)
        await performers.insert_new(tx, [states.current[name] for name in new], now)

    def changes(self, states: PerformerStates) -> Sequence[Message]:
        """The fields that each applied event has won."""
        return [_change_event(each.event, applied_fields(each.after, each.event.patch)) for each in states.applied]

    def corrections(self, states: PerformerStates) -> Sequence[Message]:
        """Of these fields those that have another value than before."""
        corrected = ((each.event, _corrected(each)) for each in states.applied)
        return [_change_event(event, fields) for event, fields in corrected if fields]

    def differences(self, states: PerformerStates) -> Mapping[str, Differences]:
        """Field by field, by their names on the wire; of a new performer those that are not as they begin."""
        found = ((name, _differences(states.stored.get(name), states.current[name])) for name in states.changed)
        return {name: differences for name, differences in found if differences}

    async def after_commit(self, states: PerformerStates) -> None:
        """Drop what the gateway has cached of them."""
        if states.stored:
            await self._drops.drop([row.id for row in states.stored.values()])


def _change_event(event: PerformerEvent, fields: Mapping[str, object]) -> Message:
    named = {WIRE_NAMES[name]: value for name, value in fields.items()}
    cause = event.cause
    change = PerformerChange(event.sharegram_id, named, event.patch.write_version.version, cause.time, cause.type)
    return performer_changed(cause, change)


def _corrected(applied: AppliedChange) -> dict[str, object]:
    won, before = applied_fields(applied.after, applied.event.patch), applied.before.fields
    return {name: value for name, value in won.items() if before.get(name) != value}


def _differences(stored: LockedPerformer | None, current: Performer) -> Differences:
    before = DEFAULTS if stored is None else stored.performer.fields
    return {
        WIRE_NAMES[name]: (before.get(name), value)
        for name, value in current.fields.items()
        if before.get(name) != value
    }
