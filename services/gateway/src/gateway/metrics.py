"""What the gateway counts, beyond its requests."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter

Source = Literal["cache", "database"]


class GatewayMetrics:
    """Where performers were read from."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._performer_reads = Counter(
            "safevideo_performer_reads",
            "Performers read, by the place that had them: cache or database.",
            ("source",),
            registry=registry,
        )

    def performer_read(self, source: Source) -> None:
        """One performer that was found."""
        self._performer_reads.labels(source).inc()
