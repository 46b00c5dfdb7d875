"""The wiring of `webhook-ingest`: every object it is made of, in the order in which they need each other."""

from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.clock import utc_now
from safevideo_common.messaging.port import EventLog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.webhook_signatures import SharegramScheme
from safevideo_common.web.app import add_hot_post, base_app
from safevideo_common.web.health import Check
from webhook_ingest.metrics import IngestMetrics
from webhook_ingest.settings import IngestSettings
from webhook_ingest.web.webhooks import PATH, ReceiveWebhook

SERVICE = "webhook-ingest"


def build_app(settings: IngestSettings, event_log: EventLog, log: FilteringBoundLogger) -> web.Application:
    """The service as an aiohttp application. It starts and serves while the log is away: it answers 503 until then."""
    registry = CollectorRegistry()
    app = base_app(
        log,
        registry,
        ready=[Check("log", event_log.probe)],
        max_body_bytes=settings.max_webhook_bytes,
    )

    async def door(app: web.Application) -> AsyncIterator[None]:
        async with event_log.publisher(SERVICE) as publisher:
            receive = ReceiveWebhook(
                settings, SharegramScheme(), publisher, clock=utc_now, log=log, metrics=IngestMetrics(registry)
            )
            add_hot_post(app, PATH, receive.handle)
            yield

    app.cleanup_ctx.append(door)
    return app

