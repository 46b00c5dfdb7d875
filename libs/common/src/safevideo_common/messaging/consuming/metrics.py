"""What a consuming process counts."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from time import time

from prometheus_client import CollectorRegistry

from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.messaging.consuming.inbox_metrics import InboxMetrics
from safevideo_common.messaging.outbox_relay.metrics import RelayMetrics
from safevideo_common.messaging.port import Record, TopicPartition
from safevideo_common.observability import metric_list
from safevideo_common.observability.metric import counter, gauge, histogram


class ConsumerMetrics:
    """Events by what became of them, batches by size and time, and what lies ahead."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = counter(metric_list.EVENTS, registry)
        for outcome in (*Status, "duplicate"):
            self._events.labels(outcome)  # from 0 on: a series that begins at 1 has not increased
        self._batch_events = histogram(metric_list.BATCH_EVENTS, registry)
        self._batch_seconds = histogram(metric_list.BATCH_SECONDS, registry)
        self._commit_failures = counter(metric_list.OFFSET_COMMIT_FAILURES, registry)
        self._stage_seconds = histogram(metric_list.BATCH_STAGE_SECONDS, registry)
        self._rebalances = counter(metric_list.REBALANCES, registry)
        self._halted = gauge(metric_list.CONSUMER_HALTED, registry)
        self._lag = gauge(metric_list.CONSUMER_LAG, registry)
        self._behind = gauge(metric_list.CONSUMER_BEHIND_SECONDS, registry)
        self.outbox = RelayMetrics(registry)
        self.inbox = InboxMetrics(registry)
        self._reached: dict[TopicPartition, float] = {}

    def batch(self, records: Sequence[Record], seconds: float) -> None:
        """One fetched batch was applied."""
        self._batch_events.observe(len(records))
        self._batch_seconds.observe(seconds)
        for record in records:
            self._reached[TopicPartition(record.topic, record.partition)] = record.timestamp_ms / 1000

    def stage(self, name: str, seconds: float) -> None:
        """A stage of a batch has ended."""
        self._stage_seconds.labels(name).observe(seconds)

    def decided(self, outcomes: Iterable[Outcome], duplicates: int = 0) -> None:
        """Outcomes that are committed."""
        for status, count in Tally(outcome.status for outcome in outcomes).items():
            self._events.labels(status.value).inc(count)
        if duplicates:
            self._events.labels("duplicate").inc(duplicates)

    def commit_failed(self) -> None:
        """Offsets could not be committed: their records will be read again."""
        self._commit_failures.inc()

    def rebalanced(self, times: int) -> None:
        """Partitions may have changed hands so often since this was last told."""
        self._rebalances.inc(times)

    def halted(self) -> None:
        """Consuming has stopped for good."""
        self._halted.set(1)

    def lag(self, lag: Mapping[TopicPartition, int]) -> None:
        """What the member's partitions hold beyond the committed offsets; partitions that were lost disappear."""
        self._lag.clear()
        self._behind.clear()
        self._reached = {partition: at for partition, at in self._reached.items() if partition in lag}
        for partition, records in lag.items():
            labels = partition.topic, str(partition.partition)
            self._lag.labels(*labels).set(records)
            reached = self._reached.get(partition)
            if not records or reached is not None:
                self._behind.labels(*labels).set(max(0.0, time() - reached) if records and reached else 0)
