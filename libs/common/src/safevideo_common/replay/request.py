"""The request of a replay: the parameters of the job."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from safevideo_common.audit.store import Caller
from safevideo_common.clock import rfc3339
from safevideo_common.errors import ValidationFailed
from safevideo_common.events.envelope import Envelope, EventType, ExternalId, Timestamp
from safevideo_common.events.topics import CONSUMED
from safevideo_common.jobs.model import Job, NewJob
from safevideo_common.jobs.service import AlsoInTransaction, JobService

JOB_TYPE: Final = "event_replay"
TOPICS: Final = tuple(topic for topics in CONSUMED.values() for topic in topics)
MAX_TYPES: Final = 50
MAX_PERFORMERS: Final = 1000
EVENTS_PER_SECOND: Final = 1000
"""The default rate: a small part of a worker's capacity."""
MAX_EVENTS_PER_SECOND: Final = 1_000_000
"""More than a worker can process, so there is no throttle."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class ReplayParameters(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The events of `topic` that were received in a range of time. The end is excluded; either end may be open."""

    topic: str
    target: str
    """The worker that runs the replay, and whose inbox it uses."""
    since: Timestamp | None = msgspec.field(default=None, name="from")
    until: Timestamp | None = msgspec.field(default=None, name="to")
    types: tuple[EventType, ...] = ()
    """Only these types; all if it is empty."""
    performer_ids: tuple[ExternalId, ...] = ()
    """Only these performers, by Sharegram's id; all if it is empty."""
    dry_run: bool = True
    force: bool = False
    events_per_second: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVENTS_PER_SECOND)] = EVENTS_PER_SECOND

    def document(self) -> dict[str, object]:
        """Return the parameters for the job's row."""
        document: dict[str, object] = {"topic": self.topic, "target": self.target}
        document |= {name: rfc3339(at) for name, at in (("from", self.since), ("to", self.until)) if at is not None}
        if self.types:
            document["types"] = list(self.types)
        if self.performer_ids:
            document["performerIds"] = list(self.performer_ids)
        return document | {"dryRun": self.dry_run, "force": self.force, "eventsPerSecond": self.events_per_second}

    def faults(self) -> dict[str, str]:
        """Return the invalid fields, each with the reason."""
        faults: dict[str, str] = {}
        if self.topic not in TOPICS:
            faults["topic"] = f"must be one of {', '.join(TOPICS)}"
        if self.target not in CONSUMED:
            faults["target"] = f"must be one of {', '.join(CONSUMED)}"
        elif self.topic in TOPICS and self.topic not in CONSUMED[self.target]:
            faults["target"] = f"{self.target} does not read {self.topic}"
        if self.since is not None and self.until is not None and self.since >= self.until:
            faults["to"] = "must be after from"
        if len(self.types) > MAX_TYPES:
            faults["types"] = f"at most {MAX_TYPES}"
        if len(self.performer_ids) > MAX_PERFORMERS:
            faults["performerIds"] = f"at most {MAX_PERFORMERS}"
        return faults

    def matches(self, envelope: Envelope) -> bool:
        """Return True if an event passes the filters."""
        return (not self.types or envelope.type in self.types) and (
            not self.performer_ids or envelope.subject in self.performer_ids
        )


def parse_parameters(document: Mapping[str, object]) -> ReplayParameters:
    """Parse the result of `ReplayParameters.document`. Raise `ValueError`, with a message without values."""
    try:
        request = msgspec.convert(document, ReplayParameters)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if faults := request.faults():
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in faults.items()))
    return request


def milliseconds(timestamp: datetime) -> int:
    """Return the first Unix millisecond that is not before `timestamp`."""
    return -((_EPOCH - timestamp) // _MILLISECOND)


REPLAY_REQUESTED: Final = "replays.requested"


async def enqueue_replay(
    jobs: JobService, request: ReplayParameters, caller: Caller, also: AlsoInTransaction | None = None
) -> Job:
    """Queue the replay for its target. Raise `ValidationFailed`, with an entry in `details` for each invalid field.

    `also` is called in the same transaction.
    """
    if faults := request.faults():
        raise ValidationFailed("Some fields of the replay are wrong.", details=faults)
    job = NewJob(
        JOB_TYPE, request.document(), runner=request.target, created_by=caller.name, request_id=caller.request_id
    )
    return await jobs.enqueue(job, REPLAY_REQUESTED, caller, also)
