"""What running jobs counts."""

from collections import Counter as Tally
from collections.abc import Iterable
from math import nan

from prometheus_client import CollectorRegistry

from safevideo_common.jobs.model import AttemptOutcome
from safevideo_common.jobs.store.attempts import CompletedJob
from safevideo_common.jobs.store.stats import QueueDepth
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge, histogram


class JobMetrics:
    """The queue, the runs, and what became of them."""

    def __init__(self, registry: CollectorRegistry, job_types: Iterable[str]) -> None:
        """Series of the known types are there from the start."""
        self._queued = gauge(metric_catalog.JOBS_QUEUED, registry)
        self._oldest = gauge(metric_catalog.JOBS_OLDEST_SECONDS, registry)
        self._unknown = gauge(metric_catalog.JOBS_UNKNOWN, registry)
        self._running = gauge(metric_catalog.JOBS_RUNNING, registry)
        self._claimed = counter(metric_catalog.JOBS_CLAIMED, registry)
        self._ended = counter(metric_catalog.JOB_TRIES, registry)
        self._seconds = histogram(metric_catalog.JOB_SECONDS, registry)
        self._leases_lost = counter(metric_catalog.JOB_LEASES_LOST, registry)
        self._rescued = counter(metric_catalog.JOBS_RESCUED, registry)
        self._late = counter(metric_catalog.JOB_HEARTBEATS_LATE, registry)
        self._fired = counter(metric_catalog.SCHEDULE_FIRES, registry)
        self._job_types = tuple(job_types)
        for job_type in self._job_types:
            self._claimed.labels(job_type)
            for outcome in (AttemptOutcome.COMPLETED, AttemptOutcome.PUT_OFF, AttemptOutcome.FAILED):
                self._ended.labels(job_type, outcome.value)

    def claimed(self, job_types: Iterable[str]) -> None:
        """A try begins of a job of each."""
        for job_type, jobs in Tally(job_types).items():
            self._claimed.labels(job_type).inc(jobs)

    def running(self, job_types: Iterable[str]) -> None:
        """What runs now."""
        running = Tally(job_types)
        for job_type in self._job_types:
            self._running.labels(job_type).set(running[job_type])

    def ran(self, job_type: str, seconds: float) -> None:
        """A handler has returned or raised."""
        self._seconds.labels(job_type).observe(seconds)

    def ended(self, endings: Iterable[CompletedJob]) -> None:
        """Endings that are committed."""
        for (job_type, outcome), tries in Tally((each.job_type, each.outcome) for each in endings).items():
            self._ended.labels(job_type, outcome.value).inc(tries)

    def rescued(self, endings: Iterable[CompletedJob]) -> None:
        """Jobs taken back from workers that died, by what they are now."""
        for each in endings:
            self._rescued.labels(each.job_type, each.status.value).inc()

    def lease_lost(self) -> None:
        """A run of this process went on after its lease, and wrote nothing."""
        self._leases_lost.inc()

    def beat_late(self) -> None:
        """The event loop, or the database, kept a heartbeat waiting."""
        self._late.inc()

    def fired(self, name: str) -> None:
        """An entry of the schedule has queued its job."""
        self._fired.labels(name).inc()

    def queue(self, depths: Iterable[QueueDepth] | None) -> None:
        """As the last look found it; None when there was no looking, and then there is no old figure either."""
        self._queued.clear()
        self._oldest.clear()
        for each in depths or ():
            self._queued.labels(each.job_type, each.priority).set(each.jobs)
            self._oldest.labels(each.job_type, each.priority).set(each.oldest_seconds)

    def unknown(self, jobs: int | None) -> None:
        """Jobs whose status means nothing; None when there was no looking."""
        self._unknown.set(nan if jobs is None else jobs)
