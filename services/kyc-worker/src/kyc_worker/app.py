"""The wiring of `kyc-worker`: every object it is made of, in the order in which they need each other."""

from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CollectorRegistry

from kyc_worker.handlers.verifications import HandleVerifications
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.events import topics
from safevideo_common.messaging.consuming.backoff import Backoff
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.metrics import ConsumerMetrics
from safevideo_common.messaging.consuming.progress import Progress
from safevideo_common.messaging.consuming.running import consuming
from safevideo_common.messaging.port import EventLog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.app import base_app
from safevideo_common.web.health import Check

SERVICE = "kyc-worker"
TOPICS = (topics.KYC,)


def build_app(settings: KycWorkerSettings, event_log: EventLog, log: FilteringBoundLogger) -> web.Application:
    """The service as an aiohttp application. It refuses to start on a schema that is behind."""
    registry = CollectorRegistry()
    progress = Progress()

    async def probe_database() -> None:
        await app[DATABASE].probe()

    app = base_app(
        log,
        registry,
        alive=[Check("consumer", progress.check)],
        ready=[Check("database", probe_database), Check("log", event_log.probe)],
    )

    async def consume(app: web.Application) -> AsyncIterator[None]:
        handler = HandleVerifications(utc_now, settings.kyc_auto_approve_score)
        async with Database.open(settings.database_url.get_secret_value()) as database:
            await check_schema(database)
            app[DATABASE] = database
            consumer = Consumer(
                SERVICE,
                handler,
                database,
                Backoff(settings.retry_initial_seconds, settings.retry_max_seconds),
                clock=utc_now,
                log=log,
                metrics=ConsumerMetrics(registry),
            )
            async with consuming(app, event_log, TOPICS, consumer, settings, progress):
                yield

    app.cleanup_ctx.append(consume)
    return app


DATABASE = web.AppKey("database", Database)
