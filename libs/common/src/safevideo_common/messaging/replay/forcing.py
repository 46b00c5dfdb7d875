"""The effect of a forced replay: every event is decided again, whatever the inbox says of it."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final, Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import inbox, outbox
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.dead_letters import dead_copies
from safevideo_common.messaging.consuming.deciding import Decided, Parsed, decide, events_of
from safevideo_common.messaging.consuming.effects import Done, entry_of, first_deliveries, ids_of, subjects_of
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.stages import Stopwatch
from safevideo_common.messaging.port import Message
from safevideo_common.messaging.replay.port import Replayable
from safevideo_common.messaging.replay.verdicts import verdicts

ID_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Again(Generic[Event, States]):
    """An `Effect`. Missing inbox rows are added, those that are there keep their word; only corrections are told."""

    handler: Replayable[Event, States]
    job_id: int

    async def __call__(
        self, consumer: Consumer[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
    ) -> Done[States]:
        """See `Effect`. Done again, it changes nothing."""
        states = await self.handler.load(tx, events_of(parsed))
        known = await inbox.known(tx, consumer.group, ids_of(parsed))
        fresh, _ = first_deliveries(parsed, known)
        parked = await inbox.parked(tx, consumer.group, subjects_of(fresh))
        watch.lap("load")
        decided = verdicts(partial(decide, self.handler, states), parsed, known, parked, is_forced=True)
        new, again = _by_novelty(
            (each.is_first, Decided(each.delivery, each.outcome)) for each in decided if each.outcome
        )
        consumer.dead_share.admit(asyncio.current_task(), [each.outcome for each in new])
        watch.lap("decide")
        await self.handler.store(tx, states)
        await inbox.record(tx, [entry_of(consumer, *each) for each in new])
        told = [*renamed(self.handler.corrections(states), self.job_id), *dead_copies(consumer.group, new)]
        await outbox.record(tx, told, consumer.clock())
        watch.lap("store")
        return Done(states, new, 0, bool(told), again)


def renamed(corrections: Iterable[Message], job_id: int) -> Iterator[Message]:
    """With ids of their own: under its cause's id the event may have told something else already."""
    for message in corrections:
        headers = ((name, _id(value, job_id) if name == "ce_id" else value) for name, value in message.headers)
        yield message._replace(headers=tuple(headers))


def _id(cause: bytes, job_id: int) -> bytes:
    """The cause's id and the job's; of one that would be too long it is a hash, which is as much its own."""
    suffix = b"#replay-%d" % job_id
    kept = cause if len(cause) + len(suffix) <= ID_LENGTH else sha256(cause).hexdigest().encode()
    return kept + suffix


def _by_novelty(decided: Iterable[tuple[bool, Decided]]) -> tuple[list[Decided], list[Decided]]:
    new: list[Decided] = []
    again: list[Decided] = []
    for is_first, each in decided:
        (new if is_first else again).append(each)
    return new, again
