"""What replays count, and how those that run in this process are getting on."""

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
from safevideo_common.replay.plan import KNOWN, ReplayCheckpoint


class ReplayMode(StrEnum):
    """Whether anything is applied."""

    DRY = "dry"
    REAL = "real"


class WaitReason(StrEnum):
    """What a run waits for on purpose."""

    THROTTLE = "throttle"
    """The rate that it was asked for."""
    LIVE_LAG = "live_lag"
    """The live flow, which falls behind."""


class ReplayMetrics:
    """Of all runs of the process. A run that has ended, in whatever way, has no part in the gauges."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = monotonic) -> None:
        self._events: Final = counter(metric_catalog.REPLAY_EVENTS, registry)
        self._waited: Final = counter(metric_catalog.REPLAY_WAITED_SECONDS, registry)
        self._lost: Final = counter(metric_catalog.REPLAY_RECORDS_LOST, registry)
        left = gauge(metric_catalog.REPLAY_RECORDS_LEFT, registry)
        idle = gauge(metric_catalog.REPLAY_IDLE_SECONDS, registry)
        self._now: Final = now
        self._running: Final[list[ReplayProgress]] = []
        for mode in ReplayMode:
            for outcome in (*Status, KNOWN):
                self._events.labels(mode, outcome)  # from 0 on: a series that begins at 1 has not increased
            left.labels(mode).set_function(partial(self._left, mode))
        for wait in WaitReason:
            self._waited.labels(wait)
        idle.set_function(self._idle_seconds)

    @contextmanager
    def watching(self, cursor: ReplayCheckpoint, *, is_dry: bool) -> Iterator["ReplayProgress"]:
        """One run, which begins at `cursor`, until it ends."""
        progress = ReplayProgress(self, ReplayMode.DRY if is_dry else ReplayMode.REAL, cursor, self._now)
        self._running.append(progress)
        try:
            yield progress
        finally:
            self._running.remove(progress)

    def came(self, mode: ReplayMode, outcome: str, events: int) -> None:
        """So many events more have this outcome."""
        self._events.labels(mode, outcome).inc(events)

    def lost(self, records: int) -> None:
        """Retention was quicker than the replay."""
        self._lost.inc(records)

    def waited(self, wait: WaitReason, seconds: float) -> None:
        """A run has waited on purpose."""
        self._waited.labels(wait).inc(seconds)

    def _left(self, mode: ReplayMode) -> float:
        return float(sum(each.left for each in self._running if each.mode is mode))

    def _idle_seconds(self) -> float:
        return max((each.idle_seconds for each in self._running), default=0.0)


class ReplayProgress:
    """How one run is getting on."""

    def __init__(
        self, metrics: ReplayMetrics, mode: ReplayMode, cursor: ReplayCheckpoint, now: Callable[[], float]
    ) -> None:
        """What `cursor` has was counted by the tries before."""
        self.mode: Final = mode
        self.left = cursor.total - cursor.processed
        """Records that it has yet to come to."""
        self._metrics = metrics
        self._now = now
        self._moved_at = now()
        self._counted = dict(cursor.by_outcome)
        self._lost = cursor.coverage.deleted_meanwhile

    @property
    def idle_seconds(self) -> float:
        """For so long it has come no further, without waiting on purpose."""
        return self._now() - self._moved_at if self.left else 0.0

    def sees(self, cursor: ReplayCheckpoint, *ahead: ReplayCheckpoint) -> None:
        """It has come so far, with what is known `ahead` of the cursor. What it comes to again counts once."""
        cursors = (cursor, *ahead)
        if (left := cursor.total - sum(each.processed for each in cursors)) != self.left:
            self.left, self._moved_at = left, self._now()
        for outcome, events in sum((Counter(each.by_outcome) for each in cursors), Counter[str]()).items():
            if (new := events - self._counted.get(outcome, 0)) > 0:
                self._metrics.came(self.mode, outcome, new)
                self._counted[outcome] = events
        if (gone := sum(each.coverage.deleted_meanwhile for each in cursors) - self._lost) > 0:
            self._metrics.lost(gone)
            self._lost += gone

    def waited(self, wait: WaitReason, seconds: float) -> None:
        """It has waited, and is not to blame for it."""
        self._metrics.waited(wait, seconds)
        self._moved_at = self._now()
