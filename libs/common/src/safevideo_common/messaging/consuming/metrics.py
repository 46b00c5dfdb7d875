"""What a consuming process counts."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from safevideo_common.domain.outcomes import Outcome
from safevideo_common.messaging.port import TopicPartition


class ConsumerMetrics:
    """Events by what became of them, batches by size and time, and what lies ahead."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "safevideo_events", "Events by what became of them.", ("outcome",), registry=registry
        )
        self._batch_events = Histogram(
            "safevideo_batch_events",
            "Events of one transaction.",
            registry=registry,
            buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
        )
        self._batch_seconds = Histogram(
            "safevideo_batch_seconds", "Time from a fetched batch to its commit in the database.", registry=registry
        )
        self._commit_failures = Counter(
            "safevideo_offset_commit_failures", "Offset commits without a known outcome.", registry=registry
        )
        self._lag = Gauge(
            "safevideo_consumer_lag", "Records not yet committed.", ("topic", "partition"), registry=registry
        )

    def batch(self, events: int, seconds: float) -> None:
        """One fetched batch was applied."""
        self._batch_events.observe(events)
        self._batch_seconds.observe(seconds)

    def decided(self, outcomes: Iterable[Outcome], duplicates: int = 0) -> None:
        """Outcomes that are committed."""
        for status, count in Tally(outcome.status for outcome in outcomes).items():
            self._events.labels(status.value).inc(count)
        if duplicates:
            self._events.labels("duplicate").inc(duplicates)

    def commit_failed(self) -> None:
        """Offsets could not be committed: their records will be read again."""
        self._commit_failures.inc()

    def lag(self, lag: Mapping[TopicPartition, int]) -> None:
        """What the member's partitions hold beyond the committed offsets; partitions that were lost disappear."""
        self._lag.clear()
        for (topic, partition), records in lag.items():
            self._lag.labels(topic, str(partition)).set(records)
