"""Metrics of syncs: what scans have changed, how they ended, and how far we were from Sharegram."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry

from safevideo_common.clock import Clock
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge


class ScanOutcome(StrEnum):
    """The end of an attempt of a sync."""

    COMPLETED = "completed"
    FAILED = "failed"
    """It is tried again, unless its parameters are wrong or its attempts are used up."""
    GUARD = "guard"
    """Too many performers are missing at Sharegram: a person has to confirm the deletions."""


class DriftKind(StrEnum):
    """A difference between Sharegram and us, as a scan that leaves nothing out has found it."""

    MISSING = "missing"
    """Sharegram has the performer, and we have not."""
    EXTRA = "extra"
    """We have the performer, and Sharegram has not."""
    DIFFERENT = "different"


PERFORMER_RESULTS: Final = ("created", "updated", "unchanged", "invalid", "deleted")


class SyncMetrics:
    """The metrics of all syncs of the process. The drift is that of the last complete scan here."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._performers: Final = counter(metric_catalog.SYNC_PERFORMERS, registry)
        self._scans: Final = counter(metric_catalog.SYNC_SCANS, registry)
        self._drift: Final = gauge(metric_catalog.SYNC_DRIFT, registry)
        self._clock: Final = clock
        self._running: Final[list[datetime]] = []
        for result in PERFORMER_RESULTS:
            self._performers.labels(result)  # start at 0: a rate needs a first value
        for outcome in ScanOutcome:
            self._scans.labels(outcome)
        gauge(metric_catalog.SYNC_RUNNING_SECONDS, registry).set_function(self._running_seconds)

    @contextmanager
    def track(self, started_at: datetime) -> Iterator[None]:
        """Count the time of a scan from its beginning, which may lie in an earlier attempt."""
        self._running.append(started_at)
        try:
            yield
        finally:
            self._running.remove(started_at)

    def written(self, result: str, performers: int) -> None:
        """Count performers of a page, or deletions. `result` is one of `PERFORMER_RESULTS`."""
        self._performers.labels(result).inc(performers)

    def ended(self, outcome: ScanOutcome) -> None:
        """Count the end of an attempt."""
        self._scans.labels(outcome).inc()

    def drift(self, *, missing: int, extra: int, different: int) -> None:
        """Show the drift that a complete scan has found, whether it was repaired or only reported."""
        for kind, performers in (
            (DriftKind.MISSING, missing),
            (DriftKind.EXTRA, extra),
            (DriftKind.DIFFERENT, different),
        ):
            self._drift.labels(kind).set(performers)

    def _running_seconds(self) -> float:
        return (self._clock() - min(self._running)).total_seconds() if self._running else 0.0
