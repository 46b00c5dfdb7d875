"""A consumer as part of an app: the app of a worker, its database, and the tasks that consume and keep house."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.lifecycle import background
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.dead_share import DeadShare
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.housekeeping import InboxHousekeeping
from safevideo_common.messaging.consuming.member import Member
from safevideo_common.messaging.consuming.progress import Progress
from safevideo_common.messaging.consuming.settings import ConsumerSettings
from safevideo_common.messaging.outbox_relay import relaying
from safevideo_common.messaging.port import EventLog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.app import base_app
from safevideo_common.web.health import Check

DATABASE: Final = web.AppKey("database", Database)
PROGRESS: Final = web.AppKey("progress", Progress)


def worker_app(event_log: EventLog, log: FilteringBoundLogger, registry: CollectorRegistry) -> web.Application:
    """The base app of a worker: alive while its consumer makes progress, ready when database and log answer."""
    progress = Progress()

    async def probe_database() -> None:
        await app[DATABASE].probe()

    app = base_app(
        log,
        registry,
        alive=[Check("consumer", progress.check)],
        ready=[
            Check("database", probe_database),
            Check("log", event_log.probe),
            Check("consumer", progress.check_consuming),
        ],
    )
    app[PROGRESS] = progress
    return app


@asynccontextmanager
async def worker_database(app: web.Application, settings: ConsumerSettings) -> AsyncIterator[Database]:
    """The database that `app` works on. Raises `SchemaBehind` for one that is not migrated, `DatabaseUnavailable`."""
    async with Database.open(settings.database_url.get_secret_value()) as database:
        await check_schema(database)
        app[DATABASE] = database
        yield database


@asynccontextmanager
async def consuming(
    app: web.Application,
    event_log: EventLog,
    topics: Sequence[str],
    consumer: Consumer[Event, States],
    settings: ConsumerSettings,
) -> AsyncIterator[None]:
    """Consume `topics` beside a `worker_app`, as a member of its group, and relay what is told of it.

    The death of one of these tasks fails the app.
    """
    member = Member(event_log, topics, consumer, settings, app[PROGRESS])
    housekeeping = InboxHousekeeping.of(consumer, settings)
    async with (
        event_log.publisher(f"{consumer.group}-outbox") as publisher,
        relaying(
            app,
            consumer.database,
            publisher,
            consumer.outbox_stirred,
            consumer.clock,
            consumer.log,
            consumer.metrics.outbox,
        ),
        background(app, "consume", member.run()),
        background(app, "inbox-housekeeping", housekeeping.run()),
    ):
        yield


def dead_share(settings: ConsumerSettings) -> DeadShare:
    """The limit on dying that the settings ask for."""
    return DeadShare(settings.dead_share_limit, settings.dead_share_window, settings.dead_share_least)
