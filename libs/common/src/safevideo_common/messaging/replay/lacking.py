"""The effect of a replay that is not forced: what the inbox lacks is applied as if it came now."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import inbox, outbox
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.dead_letters import dead_copies
from safevideo_common.messaging.consuming.deciding import Parsed, decide_in_order, events_of
from safevideo_common.messaging.consuming.effects import Done, entry_of, first_deliveries, ids_of, subjects_of
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.stages import Stopwatch


async def lacking(
    consumer: Consumer[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
) -> Done[States]:
    """An `Effect`. What the inbox has is passed over: it is not locked, and not counted as a duplicate.

    Where the live flow decides one of the events meanwhile, its row is there before ours: a `DatabaseConflict`.
    """
    known = await inbox.known(tx, consumer.group, ids_of(parsed))
    fresh, _ = first_deliveries(parsed, known)
    states = await consumer.handler.load(tx, events_of(fresh))
    parked = await inbox.parked(tx, consumer.group, subjects_of(fresh))
    watch.lap("load")
    decided = decide_in_order(consumer.handler, states, fresh, parked)
    consumer.dead_share.admit(asyncio.current_task(), [each.outcome for each in decided])
    watch.lap("decide")
    await consumer.handler.store(tx, states)
    await inbox.record(tx, [entry_of(consumer, *each) for each in decided])
    told = [*consumer.handler.changes(states), *dead_copies(consumer.group, decided)]
    await outbox.record(tx, told, consumer.clock())
    watch.lap("store")
    return Done(states, decided, 0, bool(told))
