"""What the door counts."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class IngestMetrics:
    """Webhooks by outcome, and how long the log takes to acknowledge."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._webhooks = Counter(
            "safevideo_webhooks",
            "Webhooks by outcome: accepted, or the reason of the refusal.",
            ("outcome",),
            registry=registry,
        )
        self._publish_seconds = Histogram(
            "safevideo_webhook_publish_seconds",
            "Time until the log acknowledged an accepted webhook.",
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2),
        )
        self._accepted = self._webhooks.labels("accepted")

    def accepted(self, publish_seconds: float) -> None:
        """One webhook that is safe."""
        self._accepted.inc()
        self._publish_seconds.observe(publish_seconds)

    def refused(self, reason: str) -> None:
        """One webhook that was not taken. `reason` comes from a fixed set: a code, or a signature refusal."""
        self._webhooks.labels(reason).inc()
