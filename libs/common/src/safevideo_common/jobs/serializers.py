"""Jobs as JSON documents of the API and of the command."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, TypedDict

from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.jobs.model import AttemptOutcome, Job, JobAttempt, JobStatus, Priority
from safevideo_common.jobs.service import JobDetails


class JobDocument(TypedDict):
    """A job as an item of a list. `error` is `CODE: sentence`."""

    jobId: int
    jobType: str
    status: JobStatus
    priority: Priority
    parameters: Mapping[str, Any]
    runner: str | None
    error: str | None
    progress: int
    totalItems: int | None
    processedItems: int
    tries: int
    maxTries: int
    freeTries: int
    nextTryAt: TimestampText | None
    createdAt: TimestampText
    queuedAt: TimestampText
    startedAt: TimestampText | None
    finishedAt: TimestampText | None
    cancelRequestedAt: TimestampText | None
    cancelReason: str | None
    createdBy: str | None
    requestId: str | None


class AttemptDocument(TypedDict):
    """An attempt of a job that ended."""

    number: int
    worker: str | None
    startedAt: TimestampText | None
    endedAt: TimestampText
    outcome: AttemptOutcome
    error: str | None


class JobDetailsDocument(JobDocument):
    """A job with its lease, its result and its attempts that ended."""

    worker: str | None
    heartbeatAt: TimestampText | None
    leaseUntil: TimestampText | None
    estimatedEndAt: TimestampText | None
    result: Mapping[str, Any] | None
    history: Sequence[AttemptDocument]


def job_document(job: Job) -> JobDocument:
    """Return a job as an item of a list: without its result, which may be long and for administrators only."""
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
        "tries": job.attempts,
        "maxTries": job.max_attempts,
        "freeTries": job.free_attempts,
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


def details_document(details: JobDetails, now: datetime) -> JobDetailsDocument:
    """Return a job with its result and its attempts."""
    job, attempts = details
    return {
        **job_document(job),
        "worker": job.worker,
        "heartbeatAt": format_timestamp(job.heartbeat_at),
        "leaseUntil": format_timestamp(job.lease_until),
        "estimatedEndAt": format_timestamp(estimated_end(job, attempts, now)),
        "result": job.result,
        "history": [attempt_document(number, each) for number, each in enumerate(attempts, start=1)],
    }


def attempt_document(number: int, attempt: JobAttempt) -> AttemptDocument:
    """Return an attempt that ended. `number` counts through all runs of the job."""
    return {
        "number": number,
        "worker": attempt.worker,
        "startedAt": format_timestamp(attempt.started_at),
        "endedAt": rfc3339(attempt.ended_at),
        "outcome": attempt.outcome,
        "error": attempt.error,
    }


def estimated_end(job: Job, attempts: Sequence[JobAttempt], now: datetime) -> datetime | None:
    """Return when a running job ends if it goes on at the average speed of all attempts of this run."""
    if job.status is not JobStatus.PROCESSING or job.started_at is None or not job.total_items:
        return None
    if not job.processed_items:
        return None
    of_this_run = takewhile(lambda each: each.outcome is not AttemptOutcome.RESET, reversed(attempts))
    times = ((each.started_at, each.ended_at) for each in of_this_run if each.started_at)
    worked = sum(
        (ended_at - started_at for started_at, ended_at in times if started_at >= job.queued_at),
        max(now - job.started_at, timedelta(0)),
    )
    remaining = max(0, job.total_items - job.processed_items)
    return now + worked * (remaining / job.processed_items)
