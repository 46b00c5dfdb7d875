"""Metrics of the outbox relay."""

from datetime import datetime
from math import nan

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.outbox.store import OutboxDepth


class RelayMetrics:
    """The size of the outbox, published messages, and failures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = gauge(metric_catalog.OUTBOX_ROWS, registry)
        self._oldest = gauge(metric_catalog.OUTBOX_OLDEST_SECONDS, registry)
        self._relayed = counter(metric_catalog.OUTBOX_PUBLISHED, registry)
        self._failures = counter(metric_catalog.OUTBOX_PUBLISH_FAILURES, registry)
        self._blocked = gauge(metric_catalog.OUTBOX_BLOCKED_PARTITIONS, registry)
        self._dropped = counter(metric_catalog.OUTBOX_DISCARDED, registry)

    def waiting(self, depth: OutboxDepth | None, now: datetime) -> None:
        """Set the size of the outbox at `now`; NaN instead of an old value if it is unknown."""
        age = (now - depth.oldest_at).total_seconds() if depth and depth.oldest_at else 0.0
        self._rows.set(nan if depth is None else depth.rows)
        self._oldest.set(nan if depth is None else max(0.0, age))

    def relayed(self, messages: int) -> None:
        """Count messages that were published and removed."""
        self._relayed.inc(messages)

    def blocked(self, partitions: int) -> None:
        """Set the number of partitions that messages wait for."""
        self._blocked.set(partitions)

    def failed(self) -> None:
        """Count a failed attempt: broker or database are unavailable."""
        self._failures.inc()

    def dropped(self) -> None:
        """Count a message that is too large for the broker."""
        self._dropped.inc()
