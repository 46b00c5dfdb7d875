"""The base app of every process."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from safevideo_common.observability.http_metrics import HttpMetrics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.supervisor import Supervisor
from safevideo_common.web.drain import DRAIN, Drain
from safevideo_common.web.health import HealthCheck, add_health_routes
from safevideo_common.web.http_protocol import BufferedPost
from safevideo_common.web.middleware import BufferedHandler, RequestMiddleware
from safevideo_common.web.server import BUFFERED_POST, ON_MALFORMED

MIDDLEWARE: Final = web.AppKey("middleware", RequestMiddleware)
SUPERVISOR: Final = web.AppKey("supervisor", Supervisor)


def base_app(
    logger: FilteringBoundLogger,
    registry: CollectorRegistry,
    *,
    alive: Sequence[HealthCheck] = (),
    ready: Sequence[HealthCheck] = (),
    max_body_bytes: int = 1 << 20,
) -> web.Application:
    """Return an application with error rendering, request ids, health and metrics. Each probe runs `ready`.

    It is ready while `ready` succeeds and no background task keeps failing.
    """
    draining, supervisor = Drain(), Supervisor(logger, registry)
    middleware = RequestMiddleware(logger, HttpMetrics(registry), draining)
    app = web.Application(middlewares=[middleware.middleware], client_max_size=max_body_bytes)
    app.on_response_prepare.append(middleware.add_headers)
    app[MIDDLEWARE] = middleware
    app[ON_MALFORMED] = middleware.report_malformed
    app[DRAIN] = draining
    app[SUPERVISOR] = supervisor
    ready = [HealthCheck("process", draining.check), HealthCheck("background tasks", supervisor.check), *ready]
    add_health_routes(app, registry, alive=alive, ready=ready)
    return app


def add_buffered_post(app: web.Application, path: str, handler: Handler, buffered: BufferedHandler) -> None:
    """Serve `POST path`: `buffered` answers plain requests without aiohttp, `handler` all others."""
    app.router.add_post(path, handler)
    app[BUFFERED_POST] = BufferedPost(path, partial(app[MIDDLEWARE].handle_buffered, handler=buffered, route=path))
