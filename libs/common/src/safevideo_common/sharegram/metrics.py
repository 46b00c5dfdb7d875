"""The metrics of calls to Sharegram."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram
from safevideo_common.sharegram.operations import OPERATIONS


class SharegramMetrics:
    """Calls by outcome, their time and that of each try, retries, and calls in flight."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = counter(metric_catalog.SHAREGRAM_CALLS, registry)
        self._call_seconds = histogram(metric_catalog.SHAREGRAM_CALL_SECONDS, registry)
        self._try_seconds = histogram(metric_catalog.SHAREGRAM_TRY_SECONDS, registry)
        self._retries = counter(metric_catalog.SHAREGRAM_RETRIES, registry)
        self._in_flight = gauge(metric_catalog.SHAREGRAM_CALLS_IN_FLIGHT, registry)
        self._queued = gauge(metric_catalog.SHAREGRAM_CALLS_QUEUED, registry)
        # `labels` takes as long as the observation itself.
        self._ok = {each.name: self._calls.labels(each.name, "ok") for each in OPERATIONS}
        self._call_seconds_of = {each.name: self._call_seconds.labels(each.name) for each in OPERATIONS}
        self._try_seconds_of = {each.name: self._try_seconds.labels(each.name) for each in OPERATIONS}

    def observe_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a call with its waits and retries."""
        (self._ok[operation] if outcome == "ok" else self._calls.labels(operation, outcome)).inc()
        self._call_seconds_of[operation].observe(seconds)

    def observe_try(self, operation: str, seconds: float) -> None:
        """Count one try, which is Sharegram's own time."""
        self._try_seconds_of[operation].observe(seconds)

    def count_retry(self, operation: str, *, is_allowed: bool) -> None:
        """Count a retry, or one that the retry budget did not allow."""
        self._retries.labels(operation, "sent" if is_allowed else "over_budget").inc()

    def read_load(self, in_flight: Callable[[], float], queued: Callable[[], float]) -> None:
        """Read the calls that have a place, and those that wait for one, at each scrape."""
        self._in_flight.set_function(in_flight)
        self._queued.set_function(queued)
