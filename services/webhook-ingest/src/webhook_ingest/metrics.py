"""The metrics of the endpoint."""

from collections.abc import Callable
from time import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram


class IngestMetrics:
    """Webhooks by outcome, the duration of each stage, the use of each secret, and the time of the last valid webhook.

    Labels have few values: outcomes are codes and reasons; secrets and sources are configured. No address is a label.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._webhooks = counter(metric_catalog.WEBHOOKS, registry)
        stages = histogram(metric_catalog.WEBHOOK_STAGE_DURATION, registry)
        self.read: Final[Histogram] = stages.labels("read")
        self.verify: Final[Histogram] = stages.labels("verify")
        self.publish: Final[Histogram] = stages.labels("publish")
        self._by_secret = counter(metric_catalog.WEBHOOK_SECRET_USED, registry)
        self._last = gauge(metric_catalog.WEBHOOK_LAST_ACCEPTED, registry)
        self._connections = counter(metric_catalog.CONNECTIONS_CLOSED, registry)
        self._in_flight = gauge(metric_catalog.WEBHOOKS_IN_FLIGHT, registry)
        self._accepted = self._webhooks.labels("accepted")
        self._last_times: dict[str, list[float]] = {}
        self._secrets: dict[str, Counter] = {}
        self._rejected: dict[str, Counter] = {}

    def accepted(self, source: str, secret: str) -> None:
        """Count a durable webhook. `source` and `secret` are names."""
        self._accepted.inc()
        used = self._secrets.get(secret)
        if used is None:
            used = self._secrets[secret] = self._by_secret.labels(secret)
        used.inc()
        last = self._last_times.get(source)
        if last is None:
            last = self._last_times[source] = [0.0]
            self._last.labels(source).set_function(lambda: last[0])
        last[0] = time()  # `Gauge.set` takes a lock: half a microsecond

    def rejected(self, reason: str) -> None:
        """Count a rejected webhook. `reason` is an error code or a `RejectReason`."""
        counter = self._rejected.get(reason)
        if counter is None:
            counter = self._rejected[reason] = self._webhooks.labels(reason)
        counter.inc()

    def connection_closed(self, reason: str) -> None:
        """Count a connection that the server closed; for `ServerLimits.on_closed`."""
        self._connections.labels(reason).inc()

    def watch_in_flight(self, count: Callable[[], int]) -> None:
        """Call `count` whenever the gauge is read."""
        self._in_flight.set_function(lambda: float(count()))
