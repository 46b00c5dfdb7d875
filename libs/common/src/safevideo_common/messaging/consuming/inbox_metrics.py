"""What is known of a worker's inbox."""

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_list
from safevideo_common.observability.metric import counter, gauge


class InboxMetrics:
    """How large it is, what waits there, and what left it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = gauge(metric_list.INBOX_ROWS, registry)
        self._waiting = gauge(metric_list.INBOX_WAITING, registry)
        self._dead = gauge(metric_list.INBOX_DEAD, registry)
        self._oldest_waiting = gauge(metric_list.INBOX_OLDEST_WAITING_SECONDS, registry)
        self._deleted = counter(metric_list.INBOX_DELETED, registry)

    def measured(self, rows: int, waiting: int, dead: int, oldest_waiting_seconds: float) -> None:
        """As the last look found it."""
        self._rows.set(rows)
        self._waiting.set(waiting)
        self._dead.set(dead)
        self._oldest_waiting.set(oldest_waiting_seconds)

    def deleted(self, rows: int) -> None:
        """So many more were too old."""
        self._deleted.inc(rows)
