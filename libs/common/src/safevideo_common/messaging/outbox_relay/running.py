"""The relay as part of an app, with the look at what waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import uniform
from typing import Final

from aiohttp import web

from safevideo_common.clock import Clock
from safevideo_common.database import outbox
from safevideo_common.database.engine import Database
from safevideo_common.database.outbox import Depth
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.lifecycle import background
from safevideo_common.messaging.outbox_relay.lease import Lease
from safevideo_common.messaging.outbox_relay.metrics import RelayMetrics
from safevideo_common.messaging.outbox_relay.relay import OutboxRelay
from safevideo_common.messaging.port import RoundPublisher
from safevideo_common.observability.logs import FilteringBoundLogger

LOOK_SECONDS: Final = 5.0


@asynccontextmanager
async def relaying(
    app: web.Application, database: Database, publisher: RoundPublisher, stirred: asyncio.Event, clock: Clock,
    log: FilteringBoundLogger, metrics: RelayMetrics,
) -> AsyncIterator[None]:  # fmt: skip
    """Relay beside `app` whenever it is this process's turn; `stirred` is set when it has committed something.

    Every process measures what waits, also while another relays: nobody may be relaying at all.
    """
    relay = OutboxRelay(database, publisher, Lease(database), stirred, log, metrics)
    async with (
        background(app, "outbox-depth", watch_depth(database, clock, metrics)),
        background(app, "outbox-relay", relay.run()),
    ):
        yield


async def watch_depth(database: Database, clock: Clock, metrics: RelayMetrics) -> None:
    """Measure what waits, for ever."""
    while True:
        metrics.waiting(await _depth(database), clock())
        await asyncio.sleep(uniform(LOOK_SECONDS / 2, LOOK_SECONDS))  # noqa: S311 - jitter guards nothing


async def _depth(database: Database) -> Depth | None:
    try:
        async with database.reading() as reading:
            return await outbox.depth(reading)
    except ServiceUnavailable:
        return None
