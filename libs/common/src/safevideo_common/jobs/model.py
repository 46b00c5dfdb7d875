"""What a job is and what can become of it. The words are those of the contract, §9, and of the table's columns.

The package `jobs` has the diagram of the states, and says what each transition checks.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

DEFAULT_MAX_ATTEMPTS: Final = 5
ERROR_LENGTH: Final = 1000
REASON_LENGTH: Final = 255


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Never written: how a job is shown whose status somebody has mistyped by hand. Nobody runs it."""


KNOWN_STATUSES: Final = tuple(status for status in JobStatus if status is not JobStatus.UNKNOWN)
FINISHED: Final = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
UNFINISHED: Final = (JobStatus.QUEUED, JobStatus.PROCESSING)


class Priority(StrEnum):
    """How urgent a job is."""

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
"""A priority is a head start in the queue: what has waited an hour longer goes before whatever is urgent, so a flood of
urgent jobs delays the low ones by an hour and does not starve them."""


class AttemptOutcome(StrEnum):
    """How one try of a job ended."""

    COMPLETED = "completed"
    PUT_OFF = "put_off"
    """It failed and is tried again."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    """Its worker was told to stop; the try does not count."""
    LEASE_LOST = "lease_lost"
    """Its worker died, or was frozen past its lease."""
    RESET = "reset"
    """Somebody changed the row by hand while the worker had it. Written when the job is claimed again."""


def status_of(word: str) -> JobStatus:
    """What a word in the column means: case, and spaces around it, say nothing."""
    try:
        return JobStatus(word.strip().lower())
    except ValueError:
        return JobStatus.UNKNOWN


def priority_of(word: str) -> Priority:
    """Likewise; normal, where it is none of the four."""
    try:
        return Priority(word.strip().lower())
    except ValueError:
        return Priority.NORMAL


def matches_runner(status: JobStatus, error: str | None, next_try_at: datetime, now: datetime) -> bool:
    """The whole rule. A job in backoff has its error set: `error` NULL means at once, whatever else the row says."""
    return status is JobStatus.QUEUED and (error is None or next_try_at <= now)


def is_new_run(error: str | None) -> bool:
    """Whether a claim begins a job anew: its tries count from one, and it has no cursor."""
    return error is None


def error_text(code: str, sentence: str) -> str:
    """What the column `error` says: a stable code, a colon, a sentence without values."""
    return f"{code}: {sentence}"[:ERROR_LENGTH]


def attempts_exhausted(tries: int, max_tries: int) -> bool:
    """Whether a failed try was the last."""
    return tries >= max_tries
