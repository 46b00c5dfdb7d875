"""The data of a job, and the rules of its states. No I/O.

The words are those of docs/contract.md, section 9. The docstring of the package has the state diagram.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

DEFAULT_MAX_ATTEMPTS: Final = 5
"""At one place: an attempt that moves the cursor forgives those before it, and an outage costs nothing."""
ERROR_LENGTH: Final = 1000
REASON_LENGTH: Final = 255


class JobStatus(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Never written: shown for a status that was mistyped by hand. No worker runs such a job."""


KNOWN_STATUSES: Final = tuple(status for status in JobStatus if status is not JobStatus.UNKNOWN)
FINISHED: Final = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
RESUMABLE: Final = (JobStatus.FAILED, JobStatus.CANCELLED)
"""A retry of such a job goes on at its cursor."""
UNFINISHED: Final = (JobStatus.QUEUED, JobStatus.PROCESSING)


class Priority(StrEnum):
    """The urgency of a job."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


PRIORITY_AGING: Final[Mapping[Priority, timedelta]] = {
    Priority.URGENT: timedelta(minutes=60),
    Priority.HIGH: timedelta(minutes=20),
    Priority.NORMAL: timedelta(minutes=5),
    Priority.LOW: timedelta(0),
}
"""A priority is a head start in one queue. A low job that has waited an hour longer goes before an urgent one, so a
flood of urgent jobs delays low ones by an hour and never starves them."""


class AttemptOutcome(StrEnum):
    """The result of one attempt of a job."""

    COMPLETED = "completed"
    RETRYABLE = "retryable"
    """It failed; the job will be attempted again, unless this was its last attempt."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its worker shut down; the attempt does not count."""
    DEFERRED = "deferred"
    """A dependency is known to be unavailable; the attempt does not count."""
    LEASE_LOST = "lease_lost"
    """Its worker died, or was frozen past its lease."""
    RESET = "reset"
    """An operator changed the row by hand while the worker had it. Written when the job is claimed again."""


UNCOUNTED: Final = frozenset({AttemptOutcome.INTERRUPTED, AttemptOutcome.DEFERRED})
"""Outcomes of attempts that do not count."""

STATUS_AFTER: Final[Mapping[AttemptOutcome, JobStatus]] = {
    AttemptOutcome.COMPLETED: JobStatus.COMPLETED,
    AttemptOutcome.RETRYABLE: JobStatus.QUEUED,
    AttemptOutcome.FAILED: JobStatus.FAILED,
    AttemptOutcome.CANCELLED: JobStatus.CANCELLED,
    AttemptOutcome.INTERRUPTED: JobStatus.QUEUED,
    AttemptOutcome.DEFERRED: JobStatus.QUEUED,
    AttemptOutcome.LEASE_LOST: JobStatus.QUEUED,
}


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue. `parameters` hold no secret and no personal data: every reader of the table sees them."""

    job_type: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    runner: str | None = None
    """The only service that may run it; None allows each service that knows the type."""
    unique_key: str | None = None
    """At most one job with this key is queued or processing at a time."""
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    created_by: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `batch_jobs`, without the token of its lease."""

    id: int
    job_type: str
    parameters: Mapping[str, object]
    priority: Priority
    status: JobStatus
    error: str | None
    created_at: datetime
    runner: str | None
    unique_key: str | None
    queued_at: datetime
    next_try_at: datetime
    attempts: int
    max_attempts: int
    free_attempts: int
    lease_until: datetime | None
    heartbeat_at: datetime | None
    worker: str | None
    progress: int
    total_items: int | None
    processed_items: int
    cursor: Mapping[str, object] | None
    result: Mapping[str, object] | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    started_at: datetime | None
    finished_at: datetime | None
    created_by: str | None
    request_id: str | None


class JobAttempt(NamedTuple):
    """A row of `batch_job_tries`: an attempt that ended. `number` begins at 1 in each new run of the job."""

    job_id: int
    number: int
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    outcome: AttemptOutcome
    error: str | None


class Lease(NamedTuple):
    """The right to work on a job. Each claim has a new token; only the token in the row is valid."""

    job_id: int
    token: str


class ClaimedJob(NamedTuple):
    """A job under a lease of this process."""

    job_id: int
    job_type: str
    parameters: Mapping[str, object]
    cursor: Mapping[str, object] | None
    attempt: int
    max_attempts: int
    request_id: str | None
    lease: Lease
    traceparent: str
    """The sampled span that enqueued it, or empty."""

    @property
    def log_fields(self) -> dict[str, object]:
        """The fields that each log line about it has: the job, the request that enqueued it, and its performer."""
        return log_fields_of(self.job_id, self.job_type, self.request_id, self.parameters)


def log_fields_of(
    job_id: int, job_type: str, request_id: str | None, parameters: Mapping[str, object]
) -> dict[str, object]:
    """Return the fields of log lines about a job. One that the clock enqueued has no request."""
    performer = parameters.get("performerId")
    about = {"performer_id": performer} if isinstance(performer, str) else {}
    return {"job_id": job_id, "job_type": job_type, "request_id": request_id, **about}


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress that a step saves. A field that is None stays unchanged."""

    cursor: Mapping[str, object] | None = None
    processed: int | None = None
    total: int | None = None
    has_moved: bool = False
    """The cursor is another one than at the beginning of the attempt."""


class JobCompletion(NamedTuple):
    """The end of an attempt, before it is written."""

    lease: Lease
    outcome: AttemptOutcome
    error: str | None = None
    result: Mapping[str, object] | None = None
    delay: float = 0.0
    """Seconds until the next attempt, if there is one."""
    is_outage: bool = False
    """The database or the broker was unavailable, so the attempt costs nothing."""
    log_fields: Mapping[str, object] = MappingProxyType({})
    """The fields that each log line about the attempt has."""

    @property
    def status(self) -> JobStatus:
        """Return the job's status after this attempt."""
        return STATUS_AFTER[self.outcome]


class CompletedJob(NamedTuple):
    """The end of an attempt, as it was written."""

    lease: Lease
    job_type: str
    outcome: AttemptOutcome
    status: JobStatus
    log_fields: Mapping[str, object] = MappingProxyType({})
    """As in `JobCompletion`."""


def status_of(word: str) -> JobStatus:
    """Return the status that a word in the column means. Case and surrounding spaces are ignored."""
    try:
        return JobStatus(word.strip().lower())
    except ValueError:
        return JobStatus.UNKNOWN


def priority_of(word: str) -> Priority:
    """Return the priority that a word in the column means; NORMAL if it is not one of the four."""
    try:
        return Priority(word.strip().lower())
    except ValueError:
        return Priority.NORMAL


def is_new_run(error: str | None) -> bool:
    """Return True if a claim starts a new run: attempts count from 1, and there is no cursor."""
    return error is None


def error_text(code: str, sentence: str) -> str:
    """Return the text of the column `error`: a stable code, a colon, a sentence without values."""
    return f"{code}: {sentence}"[:ERROR_LENGTH]
