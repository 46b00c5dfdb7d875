"""What the metrics of jobs say."""

from prometheus_client import CollectorRegistry

from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import AttemptOutcome, JobStatus
from safevideo_common.jobs.store.attempts import CompletedJob, Lease
from safevideo_common.jobs.store.stats import QueueDepth


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
    metrics.ended([CompletedJob(Lease(1, "t"), "a", AttemptOutcome.COMPLETED, JobStatus.COMPLETED)])
    metrics.rescued([CompletedJob(Lease(2, "t"), "a", AttemptOutcome.LEASE_LOST, JobStatus.QUEUED)])
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
