"""Metrics of replays: counters, and the progress of the replays that run in this process."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from time import monotonic
from typing import Final

from prometheus_client import CollectorRegistry

from safevideo_common.domain.outcomes import Status
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.replay.plan import KNOWN_OUTCOME, ReplayCheckpoint


class ReplayMode(StrEnum):
    """A dry run, or a real replay."""

    DRY = "dry"
    REAL = "real"


class WaitReason(StrEnum):
    """The reason of a deliberate wait."""

    THROTTLE = "throttle"
    """The requested rate."""
    LIVE_LAG = "live_lag"
    """The live flow falls behind."""


class ReplayMetrics:
    """The metrics of all replays of the process. A replay that has ended is not in the gauges."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = monotonic) -> None:
        self._events: Final = counter(metric_catalog.REPLAY_EVENTS, registry)
        self._waited: Final = counter(metric_catalog.REPLAY_THROTTLED_SECONDS, registry)
        self._deleted: Final = counter(metric_catalog.REPLAY_RECORDS_EXPIRED, registry)
        remaining = gauge(metric_catalog.REPLAY_RECORDS_REMAINING, registry)
        idle = gauge(metric_catalog.REPLAY_STALLED_SECONDS, registry)
        self._now: Final = now
        self._running: Final[list[ReplayProgress]] = []
        for mode in ReplayMode:
            for outcome in (*Status, KNOWN_OUTCOME):
                self._events.labels(mode, outcome)  # start at 0: a rate needs a first value
            remaining.labels(mode).set_function(partial(self._remaining, mode))
        for reason in WaitReason:
            self._waited.labels(reason)
        idle.set_function(self._idle_seconds)

    @contextmanager
    def track(self, checkpoint: ReplayCheckpoint, *, is_dry: bool) -> Iterator["ReplayProgress"]:
        """Show the progress of a replay, which begins at `checkpoint`, until it ends."""
        progress = ReplayProgress(self, ReplayMode.DRY if is_dry else ReplayMode.REAL, checkpoint, self._now)
        self._running.append(progress)
        try:
            yield progress
        finally:
            self._running.remove(progress)

    def count_events(self, mode: ReplayMode, outcome: str, events: int) -> None:
        """Count events by outcome."""
        self._events.labels(mode, outcome).inc(events)

    def count_deleted(self, records: int) -> None:
        """Count records that retention deleted before the replay read them."""
        self._deleted.inc(records)

    def count_wait(self, reason: WaitReason, seconds: float) -> None:
        """Count the seconds of a deliberate wait."""
        self._waited.labels(reason).inc(seconds)

    def _remaining(self, mode: ReplayMode) -> float:
        return float(sum(each.remaining for each in self._running if each.mode is mode))

    def _idle_seconds(self) -> float:
        return max((each.idle_seconds for each in self._running), default=0.0)


class ReplayProgress:
    """The progress of one replay."""

    def __init__(
        self, metrics: ReplayMetrics, mode: ReplayMode, checkpoint: ReplayCheckpoint, now: Callable[[], float]
    ) -> None:
        """Earlier attempts have counted the events in `checkpoint`."""
        self.mode: Final = mode
        self.remaining = checkpoint.total - checkpoint.processed
        """Records that are not processed."""
        self._metrics = metrics
        self._now = now
        self._moved_at = now()
        self._counted = dict(checkpoint.by_outcome)
        self._deleted = checkpoint.coverage.deleted_meanwhile

    @property
    def idle_seconds(self) -> float:
        """Return the seconds without progress and without a deliberate wait."""
        return self._now() - self._moved_at if self.remaining else 0.0

    def update(self, checkpoint: ReplayCheckpoint, *previews: ReplayCheckpoint) -> None:
        """Update from the checkpoint and the unsaved previews. An event that is processed again counts once."""
        checkpoints = (checkpoint, *previews)
        if (remaining := checkpoint.total - sum(each.processed for each in checkpoints)) != self.remaining:
            self.remaining, self._moved_at = remaining, self._now()
        for outcome, events in sum((Counter(each.by_outcome) for each in checkpoints), Counter[str]()).items():
            if (new := events - self._counted.get(outcome, 0)) > 0:
                self._metrics.count_events(self.mode, outcome, new)
                self._counted[outcome] = events
        if (deleted := sum(each.coverage.deleted_meanwhile for each in checkpoints) - self._deleted) > 0:
            self._metrics.count_deleted(deleted)
            self._deleted += deleted

    def record_wait(self, reason: WaitReason, seconds: float) -> None:
        """Record a deliberate wait: it does not count as time without progress."""
        self._metrics.count_wait(reason, seconds)
        self._moved_at = self._now()
