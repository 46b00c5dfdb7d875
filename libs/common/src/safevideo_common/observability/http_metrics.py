"""HTTP request metrics by route and status. The route is the pattern, never the path: no id makes a new series."""

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class HttpMetrics:
    """The histogram of request durations of one app."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = histogram(metric_catalog.HTTP_REQUEST_DURATION, registry)
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record one request that was answered."""
        key = (method if method in _METHODS else "other", route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._seconds.labels(key[0], route, str(status))
        child.observe(seconds)


def route_of(request: web.Request) -> str:
    """Return the pattern of the request's route, such as `/api/v1/performers/{id}`, or `unmatched`."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"
