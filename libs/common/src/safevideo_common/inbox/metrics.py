"""What a consuming process counts."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter, time

from prometheus_client import CollectorRegistry

from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram
from safevideo_common.outbox.metrics import RelayMetrics

# What is known of a worker's inbox.


class InboxMetrics:
    """How large it is, what waits there, and what left it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = gauge(metric_catalog.INBOX_ROWS, registry)
        self._waiting = gauge(metric_catalog.INBOX_WAITING, registry)
        self._dead = gauge(metric_catalog.INBOX_DEAD, registry)
        self._oldest_waiting = gauge(metric_catalog.INBOX_OLDEST_WAITING_SECONDS, registry)
        self._deleted = counter(metric_catalog.INBOX_DELETED, registry)

    def measured(self, rows: int, waiting: int, dead: int, oldest_waiting_seconds: float) -> None:
        """As the last look found it."""
        self._rows.set(rows)
        self._waiting.set(waiting)
        self._dead.set(dead)
        self._oldest_waiting.set(oldest_waiting_seconds)

    def deleted(self, rows: int) -> None:
        """So many more were too old."""
        self._deleted.inc(rows)


class ConsumerMetrics:
    """Events by what became of them, batches by size and time, and what lies ahead."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = counter(metric_catalog.EVENTS, registry)
        for outcome in (*Status, "duplicate"):
            self._events.labels(outcome)  # from 0 on: a series that begins at 1 has not increased
        self._batch_events = histogram(metric_catalog.BATCH_EVENTS, registry)
        self._batch_seconds = histogram(metric_catalog.BATCH_SECONDS, registry)
        self._commit_failures = counter(metric_catalog.OFFSET_COMMIT_FAILURES, registry)
        self._stage_seconds = histogram(metric_catalog.BATCH_STAGE_SECONDS, registry)
        self._rebalances = counter(metric_catalog.REBALANCES, registry)
        self._halted = gauge(metric_catalog.CONSUMER_HALTED, registry)
        self._lag = gauge(metric_catalog.CONSUMER_LAG, registry)
        self._behind = gauge(metric_catalog.CONSUMER_BEHIND_SECONDS, registry)
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


# How long the stages of a batch take.


class Stopwatch:
    """Tells `report` the name of each stage that ends, and its seconds."""

    __slots__ = ("_began", "_lap_began", "_report")

    def __init__(self, report: Callable[[str, float], None]) -> None:
        self._report = report
        self._began = self._lap_began = perf_counter()

    def lap(self, stage: str) -> None:
        """`stage` has ended, and the next begins."""
        now = perf_counter()
        self._report(stage, now - self._lap_began)
        self._lap_began = now

    def total(self) -> float:
        """Seconds since the watch was made."""
        return perf_counter() - self._began
