"""What the door counts."""

from collections.abc import Callable
from time import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram


class IngestMetrics:
    """Webhooks by outcome, the time of each stage, which secret holds, and when the last good one of a source came.

    Labels have few values: outcomes are codes and reasons, secrets and sources are those that are configured. No
    address is ever one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._webhooks = counter(metric_catalog.WEBHOOKS, registry)
        stages = histogram(metric_catalog.WEBHOOK_STAGE_SECONDS, registry)
        self.read: Final[Histogram] = stages.labels("read")
        self.verify: Final[Histogram] = stages.labels("verify")
        self.publish: Final[Histogram] = stages.labels("publish")
        self._by_secret = counter(metric_catalog.WEBHOOK_SECRET_USED, registry)
        self._last = gauge(metric_catalog.WEBHOOK_LAST_ACCEPTED, registry)
        self._connections = counter(metric_catalog.CONNECTIONS_CLOSED, registry)
        self._in_flight = gauge(metric_catalog.WEBHOOKS_IN_FLIGHT, registry)
        self._accepted = self._webhooks.labels("accepted")
        self._lasts: dict[str, list[float]] = {}
        self._secrets: dict[str, Counter] = {}
        self._refused: dict[str, Counter] = {}

    def accepted(self, source: str, secret: str) -> None:
        """One webhook that is safe. `source` is the scheme's name, `secret` the secret's."""
        self._accepted.inc()
        used = self._secrets.get(secret)
        if used is None:
            used = self._secrets[secret] = self._by_secret.labels(secret)
        used.inc()
        last = self._lasts.get(source)
        if last is None:
            last = self._lasts[source] = [0.0]
            self._last.labels(source).set_function(lambda: last[0])
        last[0] = time()  # a gauge's own `set` takes a lock: half a microsecond

    def refused(self, reason: str) -> None:
        """One webhook that was not taken. `reason` comes from a fixed set: a code, or a signature refusal."""
        counter = self._refused.get(reason)
        if counter is None:
            counter = self._refused[reason] = self._webhooks.labels(reason)
        counter.inc()

    def connection_closed(self, reason: str) -> None:
        """Count one connection, as `ServerLimits.on_closed`."""
        self._connections.labels(reason).inc()

    def watch_in_flight(self, now: Callable[[], int]) -> None:
        """Ask `now` whenever the gauge is read."""
        self._in_flight.set_function(lambda: float(now()))
