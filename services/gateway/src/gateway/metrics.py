"""The metrics of the gateway, except those of its HTTP requests."""

from typing import Literal

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter

Source = Literal["cache", "database"]


class GatewayMetrics:
    """The number of performers read, by source."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._performer_reads = counter(metric_catalog.PERFORMER_READS, registry)

    def performer_read(self, source: Source) -> None:
        """Count one performer that was found."""
        self._performer_reads.labels(source).inc()
