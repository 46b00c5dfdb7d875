"""The wiring of `kyc-worker`: every object it is made of, in the order in which they need each other."""

from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CollectorRegistry

from kyc_worker.handlers.verifications import HandleVerifications
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.clock import utc_now
from safevideo_common.events import topics
from safevideo_common.jobs.running import running_jobs
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.metrics import ConsumerMetrics
from safevideo_common.messaging.consuming.running import consuming, dead_share, worker_app, worker_database
from safevideo_common.messaging.port import EventLog
from safevideo_common.messaging.replay.parameters import JOB_TYPE
from safevideo_common.messaging.replay.replaying import AT_ONCE, ReplayEvents
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

SERVICE = topics.KYC_WORKER
TOPICS = topics.CONSUMED[SERVICE]


def build_app(settings: KycWorkerSettings, event_log: EventLog, log: FilteringBoundLogger) -> web.Application:
    """The service as an aiohttp application. It refuses to start on a schema that is behind."""
    registry = CollectorRegistry()
    app = worker_app(event_log, log, registry)

    async def consume(app: web.Application) -> AsyncIterator[None]:
        handler = HandleVerifications(utc_now, settings.kyc_auto_approve_score)
        async with worker_database(app, settings) as database:
            consumer = Consumer(
                SERVICE,
                handler,
                database,
                Backoff(settings.retry_initial_seconds, settings.retry_max_seconds),
                clock=utc_now,
                log=log,
                metrics=ConsumerMetrics(registry),
                dead_share=dead_share(settings),
            )
            jobs = {JOB_TYPE: ReplayEvents.of(consumer, handler, event_log, settings, registry)}
            async with (
                consuming(app, event_log, TOPICS, consumer, settings),
                running_jobs(
                    app, SERVICE, jobs, event_log, settings, registry, log,
                    stirred=consumer.outbox_stirred, at_once={JOB_TYPE: AT_ONCE},
                ),
            ):
                yield

    app.cleanup_ctx.append(consume)
    return app
