"""The possible outcomes of an event, in the words of the contract, §6, and of the inbox's `status` column."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from safevideo_common.domain.ordering import WriteVersion


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
    """Its type is not handled here, or its person was erased: stored and shown, without effect."""


_NONE_OVERTAKEN: Final[Mapping[str, WriteVersion]] = MappingProxyType({})


class FieldOutcome(NamedTuple):
    """The fields that an event sets, by their public names: which it won, and which newer writes keep from it."""

    version: int | None
    """The provider's version of the event."""
    won: tuple[str, ...] = ()
    overtaken: Mapping[str, WriteVersion] = _NONE_OVERTAKEN
    """The write that owns each lost field."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A status and, where it is no plain success, the reason: a stable code, a colon, a sentence without values."""

    status: Status
    reason: str | None = None
    fields: FieldOutcome | None = field(default=None, compare=False)
    """None if the event was not compared with other writes."""
    is_expected: bool = False
    """What a waiting event waits for will come: it is not dead after its last attempt."""

    @property
    def code(self) -> str:
        """Return the stable part of the reason, or the status where there is none."""
        return (self.reason or self.status).partition(":")[0]


APPLIED = Outcome(Status.APPLIED)
VERSION_MISSING = Outcome(Status.STALE, "VERSION_MISSING: writes with a version own its fields, and it has none")
IGNORED = Outcome(Status.IGNORED)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def applied(fields: FieldOutcome) -> Outcome:
    """Return the outcome of an event that won at least one field, or that sets none."""
    return Outcome(Status.APPLIED, None, fields)


def stale(fields: FieldOutcome) -> Outcome:
    """Return the outcome of an event that lost each field. The reason names the fields and the writes that own them.

    An event that lost only since it has no version gets `VERSION_MISSING`: a sender who stops to send them must be
    seen.
    """
    if fields.version is None and all(each.version is not None for each in fields.overtaken.values()):
        return replace(VERSION_MISSING, fields=fields)
    by_write: dict[str, list[str]] = {}
    for name, write in fields.overtaken.items():
        by_write.setdefault(_describe(write), []).append(name)
    losses = "; ".join(f"{', '.join(names)} by {write}" for write, names in by_write.items())
    return Outcome(Status.STALE, f"OVERTAKEN: {losses}", fields)


def _describe(write: WriteVersion) -> str:
    if write.version is not None:
        return f"version {write.version}"
    at = _EPOCH + timedelta(microseconds=write.at_micros)
    return f"an event of {at:%Y-%m-%dT%H:%M:%SZ}"


def waiting(code: str, sentence: str, *, is_expected: bool = False) -> Outcome:
    """Return the outcome of an event that must be tried again later."""
    return Outcome(Status.WAITING, f"{code}: {sentence}", is_expected=is_expected)


def dead(code: str, sentence: str) -> Outcome:
    """Return the outcome of an event that is invalid, or whose attempts are exhausted."""
    return Outcome(Status.DEAD, f"{code}: {sentence}")
