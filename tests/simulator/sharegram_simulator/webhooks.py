"""The event of a webhook, and the builders of the four types that Sharegram sends."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

import orjson

from sharegram_simulator.clock import rfc3339

PROFILE_UPDATED: Final = "performer.profile.updated"
STATUS_CHANGED: Final = "performer.status.changed"
VERIFICATION_COMPLETED: Final = "kyc.verification.completed"
VERIFICATION_FAILED: Final = "kyc.verification.failed"
TYPES: Final = (PROFILE_UPDATED, STATUS_CHANGED, VERIFICATION_COMPLETED, VERIFICATION_FAILED)


@dataclass(frozen=True, slots=True)
class Event:
    """A thing that happened at Sharegram. A redelivery is the same event with the same id."""

    type: str
    data: Mapping[str, object]
    at: datetime
    id: str | None = None

    @property
    def subject(self) -> str | None:
        """The performer that the event is about, where it names one."""
        performer_id = self.data.get("performerId")
        return performer_id if isinstance(performer_id, str) else None

    def body(self) -> bytes:
        """The JSON that is sent; without `id` where the event has none. The same bytes each time."""
        identity = {} if self.id is None else {"id": self.id}
        return orjson.dumps({**identity, "event": self.type, "timestamp": rfc3339(self.at), "data": self.data})


def new_event_id() -> str:
    """Never seeded: receivers remember ids across restarts of the simulator, and would take new events for old ones."""
    return f"evt_{uuid4().hex}"


def performer_created(
    performer_id: str,
    profile: Mapping[str, object],
    status: str,
    version: int,
    at: datetime,
    event_id: str | None = None,
) -> Event:
    """The first word about a performer: the whole profile and the status."""
    data = {"performerId": performer_id, "profile": profile, "status": status, "version": version}
    return Event(PROFILE_UPDATED, data, at, event_id or new_event_id())


def performer_updated(
    performer_id: str, changes: Mapping[str, object], version: int | None, at: datetime, event_id: str | None = None
) -> Event:
    """A patch of the profile: only the fields that changed. Without a version, `at` is its place in the order."""
    data = {"performerId": performer_id, "changes": changes} | _versioned(version)
    return Event(PROFILE_UPDATED, data, at, event_id or new_event_id())


def status_changed(
    performer_id: str, status: str, version: int | None, at: datetime, event_id: str | None = None
) -> Event:
    """The performer's status changed."""
    data = {"performerId": performer_id, "status": status} | _versioned(version)
    return Event(STATUS_CHANGED, data, at, event_id or new_event_id())


def verification_finished(
    verification_id: str, performer_id: str, result: Mapping[str, object], at: datetime, event_id: str | None = None
) -> Event:
    """A verdict, or the correction of one: `result` is `{status: passed|review|failed, riskScore, checks}`."""
    kind = VERIFICATION_FAILED if result["status"] == "failed" else VERIFICATION_COMPLETED
    data = {"verificationId": verification_id, "performerId": performer_id, "result": result}
    return Event(kind, data, at, event_id or new_event_id())


def _versioned(version: int | None) -> dict[str, object]:
    return {} if version is None else {"version": version}
