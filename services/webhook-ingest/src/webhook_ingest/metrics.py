"""What the door counts."""

from collections.abc import Callable
from time import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from safevideo_common.observability.histogram import LoopHistogram, Series

_BUCKETS: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005,
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5,
)  # fmt: skip
"""From the microseconds of an HMAC to more than the produce deadline."""


class IngestMetrics:
    """Webhooks by outcome, the time of each stage, which secret holds, and when the last good one of a source came.

    Labels have few values: outcomes are codes and reasons, secrets and sources are those that are configured. No
    address is ever one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._webhooks = Counter(
            "safevideo_webhooks",
            "Webhooks by outcome: accepted, or the reason of the refusal.",
            ("outcome",),
            registry=registry,
        )
        stages = LoopHistogram(
            "safevideo_webhook_stage_seconds",
            "Time of a webhook's stages: read (its body), verify (signature and shape), publish (until it is safe).",
            ("stage",),
            _BUCKETS,
            registry,
        )
        self.read: Final[Series] = stages.labels("read")
        self.verify: Final[Series] = stages.labels("verify")
        self.publish: Final[Series] = stages.labels("publish")
        self._by_secret = Counter(
            "safevideo_webhook_secret_used", "Accepted webhooks by the secret's name.", ("secret",), registry=registry
        )
        self._last = Gauge(
            "safevideo_webhook_last_accepted_timestamp_seconds",
            "Unix time of the last accepted webhook of a source. Not there before the first: use max_over_time.",
            ("source",),
            registry=registry,
        )
        self._connections = Counter(
            "safevideo_connections_ended",
            "Connections ended by a bound of the server: slow_head, unread, crowded_out, turned_away.",
            ("reason",),
            registry=registry,
        )
        self._in_flight = Gauge("safevideo_webhooks_in_flight", "Webhooks in hand.", registry=registry)
        self._accepted = self._webhooks.labels("accepted")
        self._lasts: dict[str, list[float]] = {}
        self._secrets: dict[str, Counter] = {}

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
        self._webhooks.labels(reason).inc()

    def connection_ended(self, reason: str) -> None:
        """For `ServerBounds.closed`."""
        self._connections.labels(reason).inc()

    def watch_in_flight(self, now: Callable[[], int]) -> None:
        """Ask `now` whenever the gauge is read."""
        self._in_flight.set_function(lambda: float(now()))
