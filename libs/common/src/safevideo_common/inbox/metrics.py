"""Metrics of a consuming process."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter, time

from prometheus_client import CollectorRegistry

from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram
from safevideo_common.outbox.metrics import RelayMetrics


class InboxMetrics:
    """The size of a worker's inbox, its waiting events, and its pruned rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = gauge(metric_catalog.INBOX_ROWS, registry)
        self._waiting = gauge(metric_catalog.INBOX_WAITING, registry)
        self._dead = gauge(metric_catalog.INBOX_DEAD, registry)
        self._oldest_waiting = gauge(metric_catalog.INBOX_OLDEST_WAITING_SECONDS, registry)
        self._deleted = counter(metric_catalog.INBOX_DELETED, registry)

    def measured(self, rows: int, waiting: int, dead: int, oldest_waiting_seconds: float) -> None:
        """Set the figures of the latest measurement."""
        self._rows.set(rows)
        self._waiting.set(waiting)
        self._dead.set(dead)
        self._oldest_waiting.set(oldest_waiting_seconds)

    def deleted(self, rows: int) -> None:
        """Count pruned rows."""
        self._deleted.inc(rows)


class ConsumerMetrics:
    """Events by outcome, batches by size and duration, and the lag."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = counter(metric_catalog.EVENTS, registry)
        self._latency = histogram(metric_catalog.EVENT_LATENCY, registry)
        self._id_conflicts = counter(metric_catalog.EVENT_ID_CONFLICTS, registry)
        for outcome in (*Status, "duplicate"):
            self._events.labels(outcome)  # start at 0: a rate needs a first value
        self._batch_events = histogram(metric_catalog.BATCH_EVENTS, registry)
        self._batch_seconds = histogram(metric_catalog.BATCH_DURATION, registry)
        self._commit_failures = counter(metric_catalog.OFFSET_COMMIT_FAILURES, registry)
        self._stage_seconds = histogram(metric_catalog.BATCH_STAGE_DURATION, registry)
        self._rebalances = counter(metric_catalog.REBALANCES, registry)
        self._halted = gauge(metric_catalog.CONSUMER_HALTED, registry)
        self._retries_paused = gauge(metric_catalog.RETRIES_PAUSED, registry)
        self._lag = gauge(metric_catalog.CONSUMER_LAG_RECORDS, registry)
        self._behind = gauge(metric_catalog.CONSUMER_LAG_SECONDS, registry)
        self.outbox = RelayMetrics(registry)
        self.inbox = InboxMetrics(registry)
        self._reached_at: dict[TopicPartition, float] = {}

    def batch(self, records: Sequence[Record], seconds: float) -> None:
        """Record a processed batch."""
        self._batch_events.observe(len(records))
        self._batch_seconds.observe(seconds)
        for record in records:
            self._reached_at[TopicPartition(record.topic, record.partition)] = record.timestamp_ms / 1000

    def stage(self, name: str, seconds: float) -> None:
        """Record the duration of a stage of a batch."""
        self._stage_seconds.labels(name).observe(seconds)

    def decided(self, outcomes: Iterable[Outcome], duplicates: int = 0) -> None:
        """Count committed outcomes."""
        for status, count in Tally(outcome.status for outcome in outcomes).items():
            self._events.labels(status.value).inc(count)
        if duplicates:
            self._events.labels("duplicate").inc(duplicates)

    def latency(self, received_at: Iterable[float]) -> None:
        """Record how long ago events were received whose effect is committed now. Times are unix seconds."""
        now = time()
        for at in received_at:
            seconds = now - at
            self._latency.observe(seconds if seconds > 0 else 0.0)  # clocks differ, and a header may say anything

    def id_conflicts(self, events: int) -> None:
        """Count events whose id another event has."""
        self._id_conflicts.inc(events)

    def commit_failed(self) -> None:
        """Count a failed offset commit: the records are read again."""
        self._commit_failures.inc()

    def rebalanced(self, times: int) -> None:
        """Count rebalances."""
        self._rebalances.inc(times)

    def halted(self) -> None:
        """Record that consumption has stopped for good."""
        self._halted.set(1)

    def retries_paused(self, is_paused: bool) -> None:
        """Record whether the retry scan is paused because of its dead letters."""
        self._retries_paused.set(is_paused)

    def lag(self, lag: Mapping[TopicPartition, int]) -> None:
        """Set the lag of the member's partitions. Remove the series of lost partitions."""
        self._lag.clear()
        self._behind.clear()
        self._reached_at = {partition: at for partition, at in self._reached_at.items() if partition in lag}
        for partition, records in lag.items():
            labels = partition.topic, str(partition.partition)
            self._lag.labels(*labels).set(records)
            reached_at = self._reached_at.get(partition)
            if not records or reached_at is not None:
                self._behind.labels(*labels).set(max(0.0, time() - reached_at) if records and reached_at else 0)


class Stopwatch:
    """Measures consecutive stages and calls `report` with the name and the seconds of each."""

    __slots__ = ("_began", "_lap_began", "_report")

    def __init__(self, report: Callable[[str, float], None]) -> None:
        self._report = report
        self._began = self._lap_began = perf_counter()

    def lap(self, stage: str) -> None:
        """End `stage` and begin the next."""
        now = perf_counter()
        self._report(stage, now - self._lap_began)
        self._lap_began = now

    def total(self) -> float:
        """Return the seconds since the stopwatch was created."""
        return perf_counter() - self._began
