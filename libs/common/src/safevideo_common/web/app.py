"""The base app that every process starts from."""

from collections.abc import Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.observability.http_metrics import HttpMetrics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.edge import edge
from safevideo_common.web.health import Check, add_health_routes


def base_app(
    log: FilteringBoundLogger,
    registry: CollectorRegistry,
    *,
    alive: Sequence[Check] = (),
    ready: Sequence[Check] = (),
    max_body_bytes: int = 1 << 20,
) -> web.Application:
    """An application with error rendering, request ids, health and metrics. `ready` is asked on each probe."""
    app = web.Application(middlewares=[edge(log, HttpMetrics(registry))], client_max_size=max_body_bytes)
    add_health_routes(app, alive=alive, ready=ready, registry=registry)
    return app
