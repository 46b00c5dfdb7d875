"""A consumer as part of an app: its two background tasks, from the first fetch to the last commit."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from safevideo_common.lifecycle import background
from safevideo_common.messaging.consuming.batch import Applier
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.loop import ConsumeLoop
from safevideo_common.messaging.consuming.progress import Progress
from safevideo_common.messaging.consuming.retries import RetryScan
from safevideo_common.messaging.consuming.settings import ConsumerSettings
from safevideo_common.messaging.port import EventLog


@asynccontextmanager
async def consuming(
    app: web.Application,
    event_log: EventLog,
    topics: Sequence[str],
    consumer: Consumer[Event, States],
    settings: ConsumerSettings,
    progress: Progress,
) -> AsyncIterator[None]:
    """Consume `topics` beside `app`, as a member of the consumer's group. The death of either task fails the app."""
    scan = RetryScan(consumer, settings.retry_scan_seconds, settings.retry_tries)
    async with event_log.subscribe(consumer.group, topics, consumer.group) as subscription:
        loop = ConsumeLoop(
            subscription, Applier(consumer), settings.batch_records, progress, consumer.log, consumer.metrics
        )
        async with background(app, "consume", loop.run()), background(app, "retry-scan", scan.run()):
            yield
