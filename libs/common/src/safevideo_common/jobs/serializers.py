"""How jobs are told by the API and by the command."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile

from safevideo_common.clock import format_timestamp, rfc3339
from safevideo_common.jobs.admin import JobDetails
from safevideo_common.jobs.model import AttemptOutcome, JobStatus
from safevideo_common.jobs.store.admin import Job
from safevideo_common.jobs.store.attempts import JobAttempt


def job_document(job: Job) -> dict[str, object]:
    """One line of a list. The result is not there: it may be long, and hold what only administrators may see."""
    return {
        "jobId": job.id,
        "jobType": job.job_type,
        "status": job.status,
        "priority": job.priority,
        "parameters": job.parameters,
        "runner": job.runner,
        "error": job.error,
        "progress": job.progress,
        "totalItems": job.total_items,
        "processedItems": job.processed_items,
        "tries": job.tries,
        "maxTries": job.max_tries,
        "nextTryAt": rfc3339(job.next_try_at) if job.status is JobStatus.QUEUED and job.error else None,
        "createdAt": rfc3339(job.created_at),
        "queuedAt": rfc3339(job.queued_at),
        "startedAt": format_timestamp(job.started_at),
        "finishedAt": format_timestamp(job.finished_at),
        "cancelRequestedAt": format_timestamp(job.cancel_requested_at),
        "cancelReason": job.cancel_reason,
        "createdBy": job.created_by,
        "requestId": job.request_id,
    }


def details_document(details: JobDetails, now: datetime) -> dict[str, object]:
    """All of one job."""
    job, tries = details
    return job_document(job) | {
        "worker": job.worker,
        "heartbeatAt": format_timestamp(job.heartbeat_at),
        "leaseUntil": format_timestamp(job.lease_until),
        "estimatedEndAt": format_timestamp(estimated_end(job, tries, now)),
        "result": job.result,
        "history": [try_document(each) for each in tries],
    }


def try_document(ended: JobAttempt) -> dict[str, object]:
    """How one try ended."""
    return {
        "number": ended.number,
        "worker": ended.worker,
        "startedAt": format_timestamp(ended.started_at),
        "endedAt": rfc3339(ended.ended_at),
        "outcome": ended.outcome,
        "error": ended.error,
    }


def estimated_end(job: Job, tries: Sequence[JobAttempt], now: datetime) -> datetime | None:
    """When a running job is done if the rest goes as fast as what it has done in all its tries."""
    if job.status is not JobStatus.PROCESSING or job.started_at is None or not job.total_items:
        return None
    if not job.processed_items:
        return None
    of_this_run = takewhile(lambda each: each.outcome is not AttemptOutcome.RESET, reversed(tries))
    began = ((each.started_at, each.ended_at) for each in of_this_run if each.started_at)
    worked = sum(
        (ended_at - started_at for started_at, ended_at in began if started_at >= job.queued_at),
        max(now - job.started_at, timedelta(0)),
    )
    left = max(0, job.total_items - job.processed_items)
    return now + worked * (left / job.processed_items)
