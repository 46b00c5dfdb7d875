"""The metrics of jobs."""

from collections import Counter
from collections.abc import Iterable
from math import nan

from prometheus_client import CollectorRegistry

from safevideo_common.jobs.model import AttemptOutcome, CompletedJob
from safevideo_common.jobs.store.stats import QueueDepth
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram


class JobMetrics:
    """Metrics of the queue, of running jobs, and of their attempts."""

    def __init__(self, registry: CollectorRegistry, job_types: Iterable[str]) -> None:
        """Series of `job_types` exist from the start."""
        self._queued = gauge(metric_catalog.JOBS_QUEUED, registry)
        self._oldest = gauge(metric_catalog.JOBS_OLDEST_QUEUED_SECONDS, registry)
        self._invalid = gauge(metric_catalog.JOBS_INVALID, registry)
        self._running = gauge(metric_catalog.JOBS_RUNNING, registry)
        self._claimed = counter(metric_catalog.JOBS_CLAIMED, registry)
        self._attempts = counter(metric_catalog.JOB_ATTEMPTS, registry)
        self._duration = histogram(metric_catalog.JOB_DURATION, registry)
        self._leases_lost = counter(metric_catalog.JOB_LEASES_LOST, registry)
        self._rescued = counter(metric_catalog.JOBS_RESCUED, registry)
        self._late_renewals = counter(metric_catalog.JOB_HEARTBEATS_LATE, registry)
        self._enqueued = counter(metric_catalog.PERIODIC_JOBS_ENQUEUED, registry)
        self._job_types = tuple(job_types)
        for job_type in self._job_types:
            self._claimed.labels(job_type)
            for outcome in (AttemptOutcome.COMPLETED, AttemptOutcome.RETRYABLE, AttemptOutcome.FAILED):
                self._attempts.labels(job_type, outcome.value)

    def record_claimed(self, job_types: Iterable[str]) -> None:
        """Count claimed jobs, given the type of each."""
        for job_type, jobs in Counter(job_types).items():
            self._claimed.labels(job_type).inc(jobs)

    def set_running(self, job_types: Iterable[str]) -> None:
        """Set the number of running jobs, given the type of each."""
        running = Counter(job_types)
        for job_type in self._job_types:
            self._running.labels(job_type).set(running[job_type])

    def record_duration(self, job_type: str, seconds: float) -> None:
        """Record how long a handler ran."""
        self._duration.labels(job_type).observe(seconds)

    def record_completed(self, jobs: Iterable[CompletedJob]) -> None:
        """Count attempts whose end is committed."""
        for (job_type, outcome), attempts in Counter((each.job_type, each.outcome) for each in jobs).items():
            self._attempts.labels(job_type, outcome.value).inc(attempts)

    def record_rescued(self, jobs: Iterable[CompletedJob]) -> None:
        """Count jobs rescued from dead workers, by their status now."""
        for each in jobs:
            self._rescued.labels(each.job_type, each.status.value).inc()

    def record_lease_lost(self) -> None:
        """Count an attempt of this process that outlived its lease and wrote nothing."""
        self._leases_lost.inc()

    def record_late_renewal(self) -> None:
        """Count a renewal of leases that the event loop or the database delayed."""
        self._late_renewals.inc()

    def record_enqueued(self, name: str) -> None:
        """Count a periodic job that was enqueued."""
        self._enqueued.labels(name).inc()

    def set_depths(self, depths: Iterable[QueueDepth] | None) -> None:
        """Set the length of the queue; None if it could not be measured, which removes the old values."""
        self._queued.clear()
        self._oldest.clear()
        for each in depths or ():
            self._queued.labels(each.job_type, each.priority).set(each.jobs)
            self._oldest.labels(each.job_type, each.priority).set(each.oldest_seconds)

    def set_invalid(self, jobs: int | None) -> None:
        """Set the number of jobs with an unknown status; None if it could not be measured."""
        self._invalid.set(nan if jobs is None else jobs)
