"""The metrics of calls to Sharegram."""

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram


class SharegramMetrics:
    """Calls by outcome, their time and that of each try, retries, and calls in flight."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = counter(metric_catalog.SHAREGRAM_CALLS, registry)
        self._call_seconds = histogram(metric_catalog.SHAREGRAM_CALL_SECONDS, registry)
        self._try_seconds = histogram(metric_catalog.SHAREGRAM_TRY_SECONDS, registry)
        self._retries = counter(metric_catalog.SHAREGRAM_RETRIES, registry)
        self._in_flight = gauge(metric_catalog.SHAREGRAM_CALLS_IN_FLIGHT, registry)
        self._queued = gauge(metric_catalog.SHAREGRAM_CALLS_QUEUED, registry)

    def observe_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a call with its waits and retries."""
        self._calls.labels(operation, outcome).inc()
        self._call_seconds.labels(operation).observe(seconds)

    def observe_try(self, operation: str, seconds: float) -> None:
        """Count one try, which is Sharegram's own time."""
        self._try_seconds.labels(operation).observe(seconds)

    def count_retry(self, operation: str, *, is_allowed: bool) -> None:
        """Count a retry, or one that the retry budget did not allow."""
        self._retries.labels(operation, "sent" if is_allowed else "over_budget").inc()

    def set_load(self, in_flight: int, queued: int) -> None:
        """Set the number of calls that have a place, and of those that wait for one."""
        self._in_flight.set(in_flight)
        self._queued.set(queued)
