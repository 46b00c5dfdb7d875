"""The base app that every process starts from."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from safevideo_common.observability.http_metrics import HttpMetrics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.drain import DRAIN, Drain
from safevideo_common.web.edge import Edge
from safevideo_common.web.health import HealthCheck, add_health_routes
from safevideo_common.web.server import HOT_ROUTE, WHOLE_POST, HotRoute
from safevideo_common.web.whole import WholeHandler, WholePost

EDGE: Final = web.AppKey("edge", Edge)


def base_app(
    log: FilteringBoundLogger,
    registry: CollectorRegistry,
    *,
    alive: Sequence[HealthCheck] = (),
    ready: Sequence[HealthCheck] = (),
    max_body_bytes: int = 1 << 20,
) -> web.Application:
    """An application with error rendering, request ids, health and metrics. `ready` is asked on each probe."""
    draining = Drain()
    edge = Edge(log, HttpMetrics(registry), draining)
    app = web.Application(middlewares=[edge.middleware], client_max_size=max_body_bytes)
    app[EDGE] = edge
    app[DRAIN] = draining
    ready = [HealthCheck("process", draining.ask), *ready]
    add_health_routes(app, registry, alive=alive, ready=ready)
    return app


def add_hot_post(app: web.Application, path: str, handler: Handler, whole: WholeHandler | None = None) -> None:
    """Serve `POST path` past the router and the middlewares, a tenth of the cost of a small request.

    `whole` takes the requests that come in one piece, past most of aiohttp too.
    """
    app.router.add_post(path, handler)  # for whoever serves the app by other means, and for the answer to other methods
    app[HOT_ROUTE] = HotRoute("POST", path, partial(app[EDGE].answer, handler=handler, route=path))
    if whole is not None:
        app[WHOLE_POST] = WholePost(path, partial(app[EDGE].answer_whole, handler=whole, route=path))
