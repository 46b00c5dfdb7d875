"""The possible outcomes of an event, in the words of the contract, §6, and of the inbox's `status` column."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The state of one event in one consumer group."""

    APPLIED = "applied"
    STALE = "stale"
    """Newer events came first, so it changed nothing."""
    WAITING = "waiting"
    """It cannot be applied yet, or an earlier event of its performer cannot: it is tried again."""
    DEAD = "dead"
    """It is not tried again automatically; `reason` says why."""
    IGNORED = "ignored"
    """Its type is not handled here: stored and shown, without effect."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A status and, where it is no plain success, the reason: a stable code, a colon, a sentence without values."""

    status: Status
    reason: str | None = None

    @property
    def code(self) -> str:
        """Return the stable part of the reason, or the status where there is none."""
        return (self.reason or self.status).partition(":")[0]


APPLIED = Outcome(Status.APPLIED)
STALE = Outcome(Status.STALE)
VERSION_MISSING = Outcome(Status.STALE, "VERSION_MISSING: writes with a version own its fields, and it has none")
IGNORED = Outcome(Status.IGNORED)


def waiting(code: str, sentence: str) -> Outcome:
    """Return the outcome of an event that must be tried again later."""
    return Outcome(Status.WAITING, f"{code}: {sentence}")


def dead(code: str, sentence: str) -> Outcome:
    """Return the outcome of an event that is invalid, or whose attempts are exhausted."""
    return Outcome(Status.DEAD, f"{code}: {sentence}")
