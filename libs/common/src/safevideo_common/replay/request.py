"""What a replay is asked for: the parameters of the job."""

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
from safevideo_common.jobs.service import JobService

JOB_TYPE: Final = "event_replay"
TOPICS: Final = tuple(topic for topics in CONSUMED.values() for topic in topics)
MAX_TYPES: Final = 50
MAX_PERFORMERS: Final = 1000
EVENTS_PER_SECOND: Final = 1000
"""Unless it is asked for otherwise: a fraction of what a worker does, so that it is hardly noticed."""
MAX_EVENTS_PER_SECOND: Final = 1_000_000
"""More than any worker does: without a throttle."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class ReplayParameters(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The events of `topic` that were received between the two moments, the end excluded; either may be open."""

    topic: str
    target: str
    """The worker that runs it, and in whose name it is applied."""
    since: Timestamp | None = msgspec.field(default=None, name="from")
    until: Timestamp | None = msgspec.field(default=None, name="to")
    types: tuple[EventType, ...] = ()
    """Only these; all when there is none."""
    performer_ids: tuple[ExternalId, ...] = ()
    """Likewise, by Sharegram's id."""
    dry_run: bool = True
    force: bool = False
    events_per_second: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVENTS_PER_SECOND)] = EVENTS_PER_SECOND

    def document(self) -> dict[str, object]:
        """As the job's row has them."""
        found: dict[str, object] = {"topic": self.topic, "target": self.target}
        found |= {name: rfc3339(at) for name, at in (("from", self.since), ("to", self.until)) if at is not None}
        if self.types:
            found["types"] = list(self.types)
        if self.performer_ids:
            found["performerIds"] = list(self.performer_ids)
        return found | {"dryRun": self.dry_run, "force": self.force, "eventsPerSecond": self.events_per_second}

    def faults(self) -> dict[str, str]:
        """What makes no sense, by the field's name."""
        found: dict[str, str] = {}
        if self.topic not in TOPICS:
            found["topic"] = f"must be one of {', '.join(TOPICS)}"
        if self.target not in CONSUMED:
            found["target"] = f"must be one of {', '.join(CONSUMED)}"
        elif self.topic in TOPICS and self.topic not in CONSUMED[self.target]:
            found["target"] = f"{self.target} does not read {self.topic}"
        if self.since is not None and self.until is not None and self.since >= self.until:
            found["to"] = "must be after from"
        if len(self.types) > MAX_TYPES:
            found["types"] = f"at most {MAX_TYPES}"
        if len(self.performer_ids) > MAX_PERFORMERS:
            found["performerIds"] = f"at most {MAX_PERFORMERS}"
        return found

    def wants(self, envelope: Envelope) -> bool:
        """Whether the filters let an event through."""
        return (not self.types or envelope.type in self.types) and (
            not self.performer_ids or envelope.subject in self.performer_ids
        )


def parse_parameters(document: Mapping[str, object]) -> ReplayParameters:
    """Inverse of `document`. Raises `ValueError` with a sentence without values."""
    try:
        found = msgspec.convert(document, ReplayParameters)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if faults := found.faults():
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in faults.items()))
    return found


def milliseconds(moment: datetime) -> int:
    """Unix milliseconds, as the log counts them: those of the first record at or after it."""
    return -((_EPOCH - moment) // _MILLISECOND)


# Asking for a replay: the job that does it.


REPLAY_REQUESTED: Final = "replays.asked"


async def enqueue_replay(administration: JobService, asked: ReplayParameters, caller: Caller) -> Job:
    """Queue it for its target. Raises `ValidationFailed`, whose details have an entry for each field that is wrong."""
    if faults := asked.faults():
        raise ValidationFailed("Some fields of the replay are wrong.", details=faults)
    job = NewJob(JOB_TYPE, asked.document(), runner=asked.target, created_by=caller.name, request_id=caller.request_id)
    return await administration.enqueue(job, REPLAY_REQUESTED, caller)
