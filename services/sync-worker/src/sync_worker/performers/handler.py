"""The handler of performer events: it applies Sharegram's changes to the mirrored performers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database import performers
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.domain.outcomes import IGNORED, Outcome, Status, dead
from safevideo_common.domain.performers import (
    DEFAULTS,
    FIELDS,
    PUBLIC_NAMES,
    Performer,
    PerformerPatch,
    applied_fields,
    decide,
)
from safevideo_common.events import performer
from safevideo_common.events.bodies import SCHEMA_MISMATCH, decode_body, field_and_reason
from safevideo_common.events.change_events import Cause, PerformerChange, next_sequence, performer_changed
from safevideo_common.events.envelope import Envelope, write_version_of
from safevideo_common.inbox.handler import Delivery, Differences
from safevideo_common.performer_sync.mirror import CacheInvalidator
from safevideo_common.performer_sync.request import enqueue_fetch

# The parser of performer events.


class PerformerEvent(NamedTuple):
    """A patch, its performer, and the envelope of the event that caused it."""

    sharegram_id: str
    patch: PerformerPatch
    cause: Envelope


class _Webhook(msgspec.Struct, frozen=True):
    data: performer.PerformerData


_decoder: Final = msgspec.json.Decoder(_Webhook)
_PROFILE_FIELDS: Final = performer.Profile.__struct_fields__
_profile_values: Final = attrgetter(*_PROFILE_FIELDS)


def parse_performer(delivery: Delivery) -> PerformerEvent | Outcome:
    """Return the event in the body, `ignored` for an unknown type, or `dead` for an invalid body."""
    if delivery.envelope.type not in performer.TYPES:
        return IGNORED
    try:
        data = decode_body(_decoder, delivery.body).data
    except SCHEMA_MISMATCH as error:
        return dead("BODY_INVALID", ": ".join(field_and_reason(error)))
    write_version = write_version_of(data.version, delivery.envelope.time, delivery.offset)
    return PerformerEvent(data.performer_id, PerformerPatch(_named_fields(data), write_version), delivery.envelope)


def _named_fields(data: performer.PerformerData) -> dict[str, object]:
    fields: dict[str, object] = {}
    for patch in (data.profile, data.changes):
        if patch is not None:
            named = zip(_PROFILE_FIELDS, _profile_values(patch), strict=True)
            fields |= {name: value for name, value in named if value is not msgspec.UNSET}
    if data.status is not None:
        fields["status"] = data.status
    return fields


class AppliedChange(NamedTuple):
    """An applied event, its performer before and after it, and the sequence of the change once it is stored."""

    before: Performer
    after: Performer
    event: PerformerEvent
    sequence: int = 0


@dataclass(slots=True)
class PerformerStates:
    """The performers of a batch by Sharegram id: as they are stored, and as they are decided."""

    stored: dict[str, LockedPerformer]
    """Without new performers."""
    current: dict[str, Performer]
    changed: set[str] = field(default_factory=set)
    applied: list[AppliedChange] = field(default_factory=list)


class PerformerHandler:
    """The handler of `sharegram.performer.v1`.

    A redelivered event changes nothing, but the cached values are invalidated again: after the first delivery the
    process may have died between commit and invalidation.
    """

    def __init__(self, clock: Clock, cache: CacheInvalidator, *, fetches: bool = False) -> None:
        """Make the handler. If `fetches`, a job fetches the rest of a new performer of which an event has a part.

        The job also fetches a deleted performer that has an event: Sharegram may have it again.
        """
        self._clock = clock
        self._cache = cache
        self._fetches = fetches

    def parse(self, delivery: Delivery) -> PerformerEvent | Outcome:
        """See `parse_performer`."""
        return parse_performer(delivery)

    async def load(self, tx: AsyncConnection, events: Sequence[PerformerEvent]) -> PerformerStates:
        """Load and lock the performers of the events. The first event of a new performer creates it."""
        stored = await performers.load_for_update(tx, {event.sharegram_id for event in events})
        return PerformerStates(dict(stored), {name: row.performer for name, row in stored.items()})

    async def locked(self, tx: AsyncConnection, events: Sequence[PerformerEvent]) -> Sequence[PerformerEvent]:
        """Return the events whose performers another transaction has locked."""
        locked = await performers.locked(tx, {event.sharegram_id for event in events})
        return [event for event in events if event.sharegram_id in locked]

    async def load_for_preview(
        self, connection: AsyncConnection, events: Sequence[PerformerEvent], earlier: PerformerStates | None
    ) -> PerformerStates:
        """Load the performers without locks, and add them to those that `earlier` events have changed."""
        states = earlier or PerformerStates({}, {})
        states.applied.clear()
        sharegram_ids = {event.sharegram_id for event in events}
        found = await performers.load(connection, sharegram_ids - states.current.keys())
        states.stored |= found
        states.current |= {name: row.performer for name, row in found.items()}
        return states

    def decide(self, states: PerformerStates, event: PerformerEvent) -> Outcome:
        """Apply the event by the rules of the domain."""
        before = states.current.get(event.sharegram_id) or Performer(event.sharegram_id)
        after, outcome = decide(before, event.patch)
        if outcome.status is Status.APPLIED:
            states.applied.append(AppliedChange(before, after, event))
        if outcome.status is Status.APPLIED or after is not before:
            states.current[event.sharegram_id] = after
            states.changed.add(event.sharegram_id)
        return outcome

    async def store(self, tx: AsyncConnection, states: PerformerStates) -> None:
        """Write the changed performers, in the same order in every worker: so deadlocks are rare.

        A performer that equals its stored state, with its write versions, is not written.
        """
        now = self._clock()
        sequences = _number(states, now)
        changed = sorted(states.changed)
        new = [name for name in changed if name not in states.stored]
        updated = [
            LockedPerformer(row.id, states.current[name], sequences.get(name, row.sequence))
            for name in changed
            if (row := states.stored.get(name)) and row.performer != states.current[name]
        ]
        await performers.update(tx, updated, now)
        await performers.insert_new(tx, [states.current[name] for name in new], now, sequences)
        if self._fetches:
            partial = [name for name in new if len(states.current[name].write_versions) < len(FIELDS)]
            deleted = [row.performer.sharegram_id for row in updated if row.performer.deleted_at is not None]
            await enqueue_fetch(tx, partial + deleted)

    def changes(self, states: PerformerStates) -> Sequence[Message]:
        """Return a message with the fields that each applied event has won."""
        return [_change_event(each, _applied_fields(each)) for each in states.applied]

    def corrections(self, states: PerformerStates) -> Sequence[Message]:
        """Return the changes, only with fields that have another value than before."""
        corrected = ((each, _corrected_fields(each)) for each in states.applied)
        return [_change_event(each, fields) for each, fields in corrected if fields]

    def diff(self, states: PerformerStates) -> Mapping[str, Differences]:
        """Return the changed fields by their wire names. A new performer is compared with the defaults."""
        found = ((name, _diff(states.stored.get(name), states.current[name])) for name in states.changed)
        return {name: differences for name, differences in found if differences}

    async def after_commit(self, states: PerformerStates) -> None:
        """Invalidate the cached values of the performers."""
        if states.stored:
            await self._cache.invalidate([row.id for row in states.stored.values()])


def _number(states: PerformerStates, now: datetime) -> Mapping[str, int]:
    """Give the applied changes their sequences, and return the last one by performer.

    An event that changed nothing, not even a write version, has that of the change before it.
    """
    last = {name: row.sequence for name, row in states.stored.items()}
    for index, change in enumerate(states.applied):
        name = change.event.sharegram_id
        if name not in last or change.after != change.before:
            last[name] = next_sequence(last.get(name, 0), now)
        states.applied[index] = change._replace(sequence=last[name])
    return last


def _change_event(applied: AppliedChange, fields: Mapping[str, object]) -> Message:
    event = applied.event
    change = PerformerChange(
        performer_id=event.sharegram_id,
        changes={PUBLIC_NAMES[name]: value for name, value in fields.items()},
        sequence=applied.sequence,
        version=event.patch.write_version.version,
        at=event.cause.time,
        caused_by=Cause.of(event.cause),
    )
    return performer_changed(event.cause, change)


def _corrected_fields(applied: AppliedChange) -> dict[str, object]:
    before = applied.before.visible_fields
    return {name: value for name, value in _applied_fields(applied).items() if before.get(name) != value}


def _applied_fields(applied: AppliedChange) -> dict[str, object]:
    return applied_fields(applied.before, applied.after, applied.event.patch)


def _diff(stored: LockedPerformer | None, current: Performer) -> Differences:
    before = DEFAULTS if stored is None else stored.performer.visible_fields
    return {
        PUBLIC_NAMES[name]: (before.get(name), value)
        for name, value in current.visible_fields.items()
        if before.get(name) != value
    }
