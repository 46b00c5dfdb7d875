"""SQL of the batch processor: the inbox has one row for each event and consumer group.

Every function takes the connection of the caller's transaction, so the row and the effect are committed together.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, bindparam, case, insert, literal_column, not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, Incoming, Upsert
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import FieldOutcome, Outcome, Status
from safevideo_common.errors import DatabaseConflict

REASON_LENGTH: Final = 255
REQUEST_ID_LENGTH: Final = 128

_c: Final = event_inbox.c
_OF_GROUP: Final = _c.consumer_group == bindparam("group")
# An event that is new costs no read of a row: the unique indexes say that it is not there.
_ROW: Final = (_c.event_id, _c.status, _c.body_sha256, _c.source_offset)
_EXISTING: Final = select(*_ROW).where(_c.event_id.in_(bindparam("event_ids", expanding=True)), _OF_GROUP)
_OF_BODIES: Final = select(*_ROW).where(_c.dedup_sha256.in_(bindparam("digests", expanding=True)), _OF_GROUP)
_BLOCKED: Final = (
    select(_c.performer_id)
    .distinct()
    .where(
        _c.status == Status.WAITING,
        _c.consumer_group == bindparam("group"),
        _c.performer_id.in_(bindparam("performer_ids", expanding=True)),
    )
)
_WRITTEN: Final = (
    "consumer_group",
    "event_id",
    "event_type",
    "performer_id",
    "source_topic",
    "source_partition",
    "source_offset",
    "last_offset",
    "occurred_at",
    "received_at",
    "decided_at",
    "status",
    "reason",
    "tries",
    "next_try_at",
    "request_id",
    "payload",
    "body_sha256",
    "dedup_sha256",
    "event_version",
    "fields_won",
    "fields_overtaken",
)
_INSERT: Final = Bulk(insert(event_inbox), _WRITTEN)


def _counted(new: Incoming) -> dict[str, ColumnElement[object]]:
    # Offsets of different partitions say nothing about each other: an event that comes by another one is counted each
    # time.
    is_comparable = and_(_c.source_topic == new.source_topic, _c.source_partition == new.source_partition)
    is_later = new.last_offset > _c.last_offset
    return {
        "duplicates": case(
            (and_(is_comparable, not_(is_later)), _c.duplicates), else_=_c.duplicates + literal_column("1")
        ),
        "last_offset": case((and_(is_comparable, is_later), new.last_offset), else_=_c.last_offset),
    }


_COUNT: Final = Bulk(Upsert(event_inbox, ("event_id", "consumer_group"), _counted), _WRITTEN)


_SETTLE: Final = (
    update(event_inbox)
    .where(_c.event_id == bindparam("settled_id"), _OF_GROUP, _c.status != Status.APPLIED)
    .values(next_try_at=None, payload=None)
)


class ExistingRow(NamedTuple):
    """The row of an event. `body_sha256` is None in rows of an earlier release."""

    event_id: str
    status: Status
    body_sha256: str | None
    source_offset: int
    """Of the first record, which is the arrival of the event."""


class InboxEntry(NamedTuple):
    """A new row: a record and its outcome. `payload` is set only if the event is waiting or dead."""

    consumer_group: str
    event_id: str
    event_type: str
    performer_id: str | None
    source_topic: str
    source_partition: int
    source_offset: int
    occurred_at: datetime
    received_at: datetime
    decided_at: datetime
    status: Status
    reason: str | None = None
    tries: int = 0
    next_try_at: datetime | None = None
    request_id: str = ""
    payload: bytes | None = None
    body_sha256: str | None = None
    dedup_sha256: str | None = None
    """The digest again, if the body is the identity of the event."""
    fields: FieldOutcome | None = None


async def existing_rows(connection: AsyncConnection, group: str, event_ids: Iterable[str]) -> list[ExistingRow]:
    """Return the rows of those events that are in the inbox."""
    found: list[ExistingRow] = []
    for some in chunks(event_ids):
        found += _existing(await connection.execute(_EXISTING, {"group": group, "event_ids": some}))
    return found


async def rows_of_bodies(connection: AsyncConnection, group: str, digests: Iterable[str]) -> list[ExistingRow]:
    """Return the rows of events that are identified by one of these bodies."""
    found: list[ExistingRow] = []
    for some in chunks(digests):
        found += _existing(await connection.execute(_OF_BODIES, {"group": group, "digests": some}))
    return found


def _existing(rows: Iterable[Row[*tuple[Any, ...]]]) -> list[ExistingRow]:
    return [ExistingRow(event_id, Status(status), *rest) for event_id, status, *rest in rows]


async def blocked_subjects(tx: AsyncConnection, group: str, performer_ids: Iterable[str]) -> set[str]:
    """Return the performers that have a waiting event: their later events must wait behind it."""
    found: set[str] = set()
    for some in chunks(performer_ids):
        found.update(await tx.scalars(_BLOCKED, {"group": group, "performer_ids": some}))
    return found


async def insert_rows(tx: AsyncConnection, entries: Sequence[InboxEntry]) -> None:
    """Insert new events, in the order of arrival. Raise `DatabaseConflict` if the inbox has one of them already."""
    await _INSERT.execute(tx, map(_row, entries))


async def count_duplicates(tx: AsyncConnection, entries: Sequence[InboxEntry]) -> None:
    """Count further records of events in the inbox, in the order of their offsets.

    A record that was counted before changes nothing, so a batch may be read again after a crash or by two members.
    The outcome of the event stays as it is.
    """
    await _COUNT.execute(tx, map(_row, entries))


async def settle(tx: AsyncConnection, group: str, event_id: str, outcome: Outcome, decided_at: datetime) -> None:
    """Give an event that is not applied its final outcome. Raise `DatabaseConflict` if it was applied since."""
    settled = await tx.execute(
        _SETTLE.values(status=outcome.status, decided_at=decided_at, **outcome_columns(outcome)),
        {"group": group, "settled_id": event_id},
    )
    if settled.rowcount != 1:
        raise DatabaseConflict("the event was processed by another transaction")


def outcome_columns(outcome: Outcome) -> dict[str, object]:
    """Return the columns that explain an outcome: its reason, the event's version, the fields won and lost."""
    version, won, overtaken = field_columns(outcome.fields)
    reason = outcome.reason and outcome.reason[:REASON_LENGTH]
    return {"reason": reason, "event_version": version, "fields_won": won, "fields_overtaken": overtaken}


def field_columns(
    fields: FieldOutcome | None,
) -> tuple[int | None, str | None, dict[str, tuple[int | None, ...]] | None]:
    """Return the columns of a field outcome. An event that lost no field has no document of losses."""
    if fields is None:
        return None, None, None
    overtaken = {name: tuple(write) for name, write in fields.overtaken.items()} if fields.overtaken else None
    return fields.version, ",".join(fields.won) or None, overtaken


def _row(entry: InboxEntry) -> tuple[object, ...]:
    return (
        entry.consumer_group,
        entry.event_id,
        entry.event_type,
        entry.performer_id,
        entry.source_topic,
        entry.source_partition,
        entry.source_offset,
        entry.source_offset,
        entry.occurred_at,
        entry.received_at,
        entry.decided_at,
        entry.status,
        entry.reason and entry.reason[:REASON_LENGTH],
        entry.tries,
        entry.next_try_at,
        entry.request_id[:REQUEST_ID_LENGTH] or None,
        entry.payload,
        entry.body_sha256,
        entry.dedup_sha256,
        *field_columns(entry.fields),
    )
