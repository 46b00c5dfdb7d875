"""Why a performer has its values: the last writer of each field, a person's decision, and the events that lost."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NotRequired, TypedDict

from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.performers import StoredPerformer
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import FIELDS, PUBLIC_NAMES, Performer
from safevideo_common.errors import PerformerNotFound
from safevideo_common.events.envelope import time_of
from safevideo_common.events.topics import SYNC_WORKER
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store.queries import EventDocument, InboxRecord, event_document

MAX_UNAPPLIED: Final = 20


class FieldDocument(TypedDict):
    """A field and its last writer, which is null in all its members if no event has set the field.

    `eventId` is also null if the inbox has the event no more.
    """

    field: str
    value: Any
    version: int | None
    occurredAt: TimestampText | None
    eventId: str | None


class StatusDecisionDocument(TypedDict):
    """A person's decision about the status. It `stands` until Sharegram sets a status that is new.

    `until` is the end of a suspension.
    """

    status: str
    decidedAt: TimestampText
    decidedBy: str
    until: TimestampText | None
    reason: str | None
    notes: str | None
    stands: bool


class PerformerHistoryDocument(TypedDict):
    """A performer, field by field, as Sharegram has set them. `status` is the one that counts.

    Reviewers see the `decision`. `unapplied` are its newest events that are not applied, or only in part.
    """

    id: int
    performerId: str
    updatedAt: TimestampText
    status: str
    decision: NotRequired[StatusDecisionDocument | None]
    fields: list[FieldDocument]
    unapplied: list[EventDocument]


async def performer_history(database: Database, performer_id: str, *, with_email: bool) -> PerformerHistoryDocument:
    """Return the last writers of a performer by our id (digits) or Sharegram's. Raises `PerformerNotFound`.

    Without `with_email` the value of `email` is null.
    """
    async with database.read_connection() as reading:
        if performer_id.isascii() and performer_id.isdigit():
            stored = await performers.get(reading, int(performer_id))
        else:
            stored = await performers.get_by_sharegram_id(reading, performer_id)
        if stored is None:
            raise PerformerNotFound("There is no such performer.")
        sharegram_id, writes = stored.performer.sharegram_id, stored.performer.write_versions
        unapplied = await inbox_queries.find_unapplied(reading, SYNC_WORKER, sharegram_id, MAX_UNAPPLIED)
        needed = {*writes.values(), *(write for each in unapplied for write in each.fields_overtaken.values())}
        writers = await inbox_queries.last_writers(reading, SYNC_WORKER, sharegram_id, needed)
    documents = [_field(stored, name, writers) for name in FIELDS]
    for each in documents:
        if each["field"] == "email" and not with_email:
            each["value"] = None
    return {
        "id": stored.id,
        "performerId": sharegram_id,
        "updatedAt": rfc3339(stored.updated_at),
        "status": str(stored.performer.status),
        "decision": decision_document(stored.performer),
        "fields": documents,
        "unapplied": _unapplied(unapplied, writers),
    }


def decision_document(performer: Performer) -> StatusDecisionDocument | None:
    """Return the JSON document of the last decision about a performer, or None."""
    decision = performer.decision
    if decision is None:
        return None
    return {
        "status": decision.status,
        "decidedAt": rfc3339(_time(decision.at_micros)),
        "decidedBy": decision.decided_by,
        "until": None if decision.until_micros is None else rfc3339(_time(decision.until_micros)),
        "reason": decision.reason,
        "notes": decision.notes,
        "stands": decision.stands(performer.fields["status"], performer.write_versions.get("status")),
    }


def _time(micros: int) -> datetime:
    return time_of(WriteVersion(None, micros))


def _field(stored: StoredPerformer, name: str, writers: dict[Any, str]) -> FieldDocument:
    write = stored.performer.write_versions.get(name)
    return {
        "field": PUBLIC_NAMES[name],
        "value": stored.performer.fields.get(name),
        "version": write and write.version,
        "occurredAt": format_timestamp(write and time_of(write)),
        "eventId": writers.get(write),
    }


def _unapplied(records: Sequence[InboxRecord], writers: dict[Any, str]) -> list[EventDocument]:
    return [event_document(each, writers) for each in records]
