"""The metrics of jobs."""

from prometheus_client import CollectorRegistry

from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import AttemptOutcome, CompletedJob, JobStatus, Lease
from safevideo_common.jobs.store.stats import QueueDepth


def test_metrics_count_attempts_by_type_and_outcome_from_zero() -> None:
    registry = CollectorRegistry()
    metrics = JobMetrics(registry, ["a"])
    completed = {"job_type": "a", "outcome": "completed"}
    assert registry.get_sample_value("safevideo_job_attempts_total", completed) == 0
    metrics.record_claimed(["a"])
    metrics.set_running(["a"])
    assert registry.get_sample_value("safevideo_jobs_running", {"job_type": "a"}) == 1
    metrics.record_duration("a", 0.5)
    metrics.set_running([])
    metrics.record_completed([CompletedJob(Lease(1, "t"), "a", AttemptOutcome.COMPLETED, JobStatus.COMPLETED)])
    metrics.record_rescued([CompletedJob(Lease(2, "t"), "a", AttemptOutcome.LEASE_LOST, JobStatus.QUEUED)])
    metrics.record_lease_lost()
    metrics.record_late_renewal()
    metrics.record_enqueued("nightly")
    assert registry.get_sample_value("safevideo_jobs_running", {"job_type": "a"}) == 0
    assert registry.get_sample_value("safevideo_jobs_claimed_total", {"job_type": "a"}) == 1
    assert registry.get_sample_value("safevideo_job_duration_seconds_sum", {"job_type": "a"}) == 0.5
    assert registry.get_sample_value("safevideo_job_attempts_total", completed) == 1
    assert registry.get_sample_value("safevideo_jobs_rescued_total", {"job_type": "a", "status": "queued"}) == 1
    assert registry.get_sample_value("safevideo_job_leases_lost_total") == 1
    assert registry.get_sample_value("safevideo_job_heartbeats_late_total") == 1
    assert registry.get_sample_value("safevideo_periodic_jobs_enqueued_total", {"name": "nightly"}) == 1


def test_metrics_have_no_value_for_what_is_not_queued_or_not_measured() -> None:
    registry = CollectorRegistry()
    metrics = JobMetrics(registry, [])
    low = {"job_type": "a", "priority": "low"}
    metrics.set_depths([QueueDepth("a", "low", 3, 1.5)])
    assert registry.get_sample_value("safevideo_jobs_queued", low) == 3
    assert registry.get_sample_value("safevideo_jobs_oldest_queued_seconds", low) == 1.5
    metrics.set_depths([])
    assert registry.get_sample_value("safevideo_jobs_queued", low) is None
    metrics.set_invalid(2)
    assert registry.get_sample_value("safevideo_jobs_invalid") == 2
    metrics.set_depths(None)
    metrics.set_invalid(None)
    assert registry.get_sample_value("safevideo_jobs_invalid") != 2
    assert registry.get_sample_value("safevideo_jobs_oldest_queued_seconds", low) is None
