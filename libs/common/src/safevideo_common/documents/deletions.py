"""SQL of files that are to be deleted: written with the change that removes their rows, gone once the file is.

- A transaction that removes a row of `kyc_documents` writes the name of its file here. Nothing deletes a file in it.
- kyc-worker claims what is due, deletes the files, then these rows. A kill between them repeats both.
"""

from collections.abc import Collection, Iterable, Sequence, Set
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import for_update_skip_locked
from safevideo_common.database.tables import document_deletions
from safevideo_common.resilience.backoff import Backoff

RETRIES: Final = Backoff(60.0, 3600.0)
"""The delays between attempts to delete one file. The first one is also the time that a claim lasts."""
_d: Final = document_deletions.c
_COLUMNS: Final = select(_d.id, _d.file_name, _d.request_id, _d.reason, _d.tries)


class DeletionReason(StrEnum):
    """Why no row names a file."""

    REPLACED = "replaced"
    """A later upload has its place."""
    REFUSED = "refused"
    """The request took no more documents when the file was written."""
    REMOVED = "removed"
    """Retention, expiry or erasure removed the row."""
    ORPHAN = "orphan"
    """The comparison of files with rows found it."""


class FileDeletion(NamedTuple):
    """A file that is to be deleted."""

    id: int
    file_name: str
    request_id: int | None
    reason: DeletionReason
    tries: int


async def record(
    tx: AsyncConnection,
    names: Iterable[str],
    request_id: int | None,
    reason: DeletionReason,
    now: datetime,
    after: timedelta = timedelta(),
) -> int:
    """Let files be deleted, once the transaction is committed and `after` has passed. Return their number."""
    due_at = now + after
    common = {"request_id": request_id, "reason": reason, "created_at": now, "due_at": due_at, "next_try_at": due_at}
    recorded = 0
    for chunk in chunks(names):
        # One statement with all rows: given a list, the driver of SQLite sends each alone.
        await tx.execute(insert(document_deletions).values([{"file_name": name, **common} for name in chunk]))
        recorded += len(chunk)
    return recorded


async def are_due(reading: AsyncConnection, now: datetime) -> bool:
    """Return whether a file may be deleted now."""
    return await reading.scalar(select(_d.id).where(_d.next_try_at <= now).limit(1)) is not None


async def claim(tx: AsyncConnection, now: datetime, limit: int) -> Sequence[FileDeletion]:
    """Return the first files that are due, and let nobody else have them until their next attempt is due."""
    due = _COLUMNS.where(_d.next_try_at <= now).order_by(_d.next_try_at).limit(limit)
    claimed = await _find(tx, for_update_skip_locked(due))
    by_tries = sorted(claimed, key=lambda each: each.tries)
    for tries, group in groupby(by_tries, key=lambda each: each.tries):
        next_try_at = now + timedelta(seconds=RETRIES.ceiling(tries + 1))
        values = {"tries": tries + 1, "next_try_at": next_try_at}
        await tx.execute(update(document_deletions).where(_d.id.in_([each.id for each in group])).values(values))
    return claimed


async def of_requests(reading: AsyncConnection, request_ids: Collection[int]) -> Sequence[FileDeletion]:
    """Return all files of requests that are to be deleted, whoever has claimed them."""
    found: list[FileDeletion] = []
    for chunk in chunks(request_ids):
        found += await _find(reading, _COLUMNS.where(_d.request_id.in_(chunk)).order_by(_d.id))
    return found


async def postpone(tx: AsyncConnection, ids: Iterable[int], until: datetime) -> None:
    """Delete these files not before `until`."""
    for chunk in chunks(ids):
        await tx.execute(
            update(document_deletions).where(_d.id.in_(chunk)).values(due_at=until, next_try_at=until, tries=0)
        )


async def remove(tx: AsyncConnection, ids: Iterable[int]) -> None:
    """Delete rows. Rows that are deleted already are ignored."""
    for chunk in chunks(ids):
        await tx.execute(delete(document_deletions).where(_d.id.in_(chunk)))


async def names_of(reading: AsyncConnection, digit: str) -> Set[str]:
    """Return the names of the files that are to be deleted and whose names begin with `digit`."""
    return frozenset(await reading.scalars(select(_d.file_name).where(_d.file_name.like(f"{digit}%"))))


async def oldest_due(reading: AsyncConnection) -> datetime | None:
    """Return the time since when a file should be deleted, or None if there is no file to delete."""
    due_at: datetime | None = await reading.scalar(select(func.min(_d.due_at)))
    return due_at


async def _find(connection: AsyncConnection, query: Select[*tuple[Any, ...]]) -> Sequence[FileDeletion]:
    return [_deletion(row) for row in await connection.execute(query)]


def _deletion(row: Row[*tuple[Any, ...]]) -> FileDeletion:
    return FileDeletion(row.id, row.file_name, row.request_id, DeletionReason(row.reason), row.tries)
