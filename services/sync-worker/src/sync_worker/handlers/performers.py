"""What Sharegram's events do to the performers mirrored here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock
from safevideo_common.database import performers
from safevideo_common.database.performers import HeldPerformer
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.domain.performers import FIELDS, Performer, decide, fields_won
from safevideo_common.events.changes import PerformerChange, performer_changed
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.port import Message
from sync_worker.handlers.parsing import PerformerEvent, parse_performer


class Drops(Protocol):
    """Where a performer's cached value is dropped after a write."""

    async def drop(self, performer_ids: Collection[int]) -> None:
        """Drop them, now or by and by. Must not raise."""
        ...


WIRE_NAMES: Final = {name: name for name in FIELDS} | {"display_name": "displayName", "profile_image": "profileImage"}


@dataclass(slots=True)
class Performers:
    """The performers of a batch, by Sharegram id. One that is not stored is new."""

    stored: Mapping[str, HeldPerformer]
    current: dict[str, Performer]
    changed: set[str] = field(default_factory=set)
    changes: list[Message] = field(default_factory=list)


class HandlePerformers:
    """The handler of `sharegram.performer.v1`.

    A redelivered event changes nothing, but its performer's cached values are dropped again: the first delivery may
    have been cut off between its commit and that.
    """

    def __init__(self, clock: Clock, drops: Drops) -> None:
        self._clock = clock
        self._drops = drops

    def parse(self, delivery: Delivery) -> PerformerEvent | Outcome:
        """See `parse_performer`."""
        return parse_performer(delivery)

    async def load(self, tx: AsyncConnection, events: Sequence[PerformerEvent]) -> Performers:
        """The performers that the events are about, locked; one that is not here yet is made by its first event."""
        stored = await performers.load_for_update(tx, {event.sharegram_id for event in events})
        return Performers(stored, {name: row.performer for name, row in stored.items()})

    def decide(self, states: Performers, event: PerformerEvent) -> Outcome:
        """As the domain says."""
        before = states.current.get(event.sharegram_id) or Performer(event.sharegram_id)
        after, outcome = decide(before, event.patch)
        if outcome.status is Status.APPLIED:
            states.current[event.sharegram_id] = after
            states.changed.add(event.sharegram_id)
            states.changes.append(_told(after, event))
        return outcome

    async def store(self, tx: AsyncConnection, states: Performers) -> None:
        """Write the performers that changed, in one order for every worker: it keeps deadlocks rare."""
        now = self._clock()
        changed = sorted(states.changed)
        known = [name for name in changed if name in states.stored]
        new = [name for name in changed if name not in states.stored]
        updated = [HeldPerformer(states.stored[name].id, states.current[name]) for name in known]
        await performers.update(tx, updated, now)
        await performers.insert_new(tx, [states.current[name] for name in new], now)

    def changes(self, states: Performers) -> Sequence[Message]:
        """The fields that each applied event has won."""
        return states.changes

    async def after_commit(self, states: Performers) -> None:
        """Drop what the gateway has cached of them."""
        if states.stored:
            await self._drops.drop([row.id for row in states.stored.values()])


def _told(after: Performer, event: PerformerEvent) -> Message:
    won = {WIRE_NAMES[name]: value for name, value in fields_won(after, event.patch).items()}
    cause = event.cause
    change = PerformerChange(event.sharegram_id, won, event.patch.stamp.version, cause.time, cause.type)
    return performer_changed(cause, change)
