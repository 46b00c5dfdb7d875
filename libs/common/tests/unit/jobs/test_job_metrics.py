"""What the metrics of jobs say."""

from prometheus_client import CollectorRegistry

from safevideo_common.database.job_endings import Ended
from safevideo_common.database.job_leases import Lease
from safevideo_common.database.job_queue import QueueDepth
from safevideo_common.domain.jobs import JobStatus, TryOutcome
from safevideo_common.jobs.metrics import JobMetrics


def test_runs_are_counted_by_type_and_outcome_from_zero_on() -> None:
    registry = CollectorRegistry()
    metrics = JobMetrics(registry, ["a"])
    completed = {"job_type": "a", "outcome": "completed"}
    assert registry.get_sample_value("safevideo_job_tries_total", completed) == 0
    metrics.claimed(["a"])
    metrics.running(["a"])
    assert registry.get_sample_value("safevideo_jobs_running", {"job_type": "a"}) == 1
    metrics.ran("a", 0.5)
    metrics.running([])
    metrics.ended([Ended(Lease(1, "t"), "a", TryOutcome.COMPLETED, JobStatus.COMPLETED)])
    metrics.rescued([Ended(Lease(2, "t"), "a", TryOutcome.LEASE_LOST, JobStatus.QUEUED)])
    metrics.lease_lost()
    metrics.beat_late()
    metrics.fired("nightly")
    assert registry.get_sample_value("safevideo_jobs_running", {"job_type": "a"}) == 0
    assert registry.get_sample_value("safevideo_jobs_claimed_total", {"job_type": "a"}) == 1
    assert registry.get_sample_value("safevideo_job_seconds_sum", {"job_type": "a"}) == 0.5
    assert registry.get_sample_value("safevideo_job_tries_total", completed) == 1
    assert registry.get_sample_value("safevideo_jobs_rescued_total", {"job_type": "a", "status": "queued"}) == 1
    assert registry.get_sample_value("safevideo_job_leases_lost_total") == 1
    assert registry.get_sample_value("safevideo_job_heartbeats_late_total") == 1
    assert registry.get_sample_value("safevideo_schedule_fires_total", {"name": "nightly"}) == 1


def test_what_waits_no_longer_and_what_is_not_known_has_no_figure() -> None:
    registry = CollectorRegistry()
    metrics = JobMetrics(registry, [])
    low = {"job_type": "a", "priority": "low"}
    metrics.queue([QueueDepth("a", "low", 3, 1.5)])
    assert registry.get_sample_value("safevideo_jobs_queued", low) == 3
    assert registry.get_sample_value("safevideo_jobs_oldest_seconds", low) == 1.5
    metrics.queue([])
    assert registry.get_sample_value("safevideo_jobs_queued", low) is None
    metrics.unknown(2)
    assert registry.get_sample_value("safevideo_jobs_unknown") == 2
    metrics.queue(None)
    metrics.unknown(None)
    assert registry.get_sample_value("safevideo_jobs_unknown") != 2
    assert registry.get_sample_value("safevideo_jobs_oldest_seconds", low) is None
