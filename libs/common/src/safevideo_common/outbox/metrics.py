"""What relaying counts."""

from datetime import datetime
from math import nan

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.outbox.store import OutboxDepth


class RelayMetrics:
    """What waits, what went, and what went wrong."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = gauge(metric_catalog.OUTBOX_ROWS, registry)
        self._oldest = gauge(metric_catalog.OUTBOX_OLDEST_SECONDS, registry)
        self._relayed = counter(metric_catalog.OUTBOX_RELAYED, registry)
        self._failures = counter(metric_catalog.OUTBOX_FAILURES, registry)
        self._dropped = counter(metric_catalog.OUTBOX_DROPPED, registry)

    def waiting(self, depth: OutboxDepth | None, now: datetime) -> None:
        """What waits at `now`; `None` when it could not be found out, which is not an old figure."""
        age = (now - depth.since).total_seconds() if depth and depth.since else 0.0
        self._rows.set(nan if depth is None else depth.rows)
        self._oldest.set(nan if depth is None else max(0.0, age))

    def relayed(self, messages: int) -> None:
        """The log has them, and the outbox has them no more."""
        self._relayed.inc(messages)

    def failed(self) -> None:
        """The log or the database is away; it is tried again."""
        self._failures.inc()

    def dropped(self) -> None:
        """The log takes no message of this size."""
        self._dropped.inc()
