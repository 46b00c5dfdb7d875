"""The performers that a complete scan has not seen: each is marked as deleted after Sharegram answers 404 for it.

Where too many are missing, none is marked: the scan stops, and a person confirms its list or not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.jobs.handler import JobContext, PermanentJobError
from safevideo_common.performer_sync.mirror import PerformerMirror, SyncCause
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.errors import SharegramRejected
from safevideo_common.sharegram.operations import PerformerRecord, SharegramCaller
from safevideo_common.tasks import task_group
from sync_worker.performers import scan_store

GUARD_CODE: Final = "DELETIONS_NEED_CONFIRMATION"
GUARD_MINIMUM: Final = 10
"""Fewer missing performers than this are never too many."""
CHUNK: Final = 50
CONCURRENT_CALLS: Final = 4
NOT_FOUND: Final = 404

Commit = Callable[[AsyncConnection, int], Awaitable[None]]
"""Saves the job's progress at the end of a transaction, with the number of performers that were marked in all."""


@dataclass(frozen=True, slots=True)
class Deletions:
    """Marks missing performers. An attempt after a kill goes on with those that are still on the list."""

    database: Database
    sharegram: SharegramClient
    mirror: PerformerMirror
    maximum_share: float
    """The part of all performers that may be missing, from 0 to 1, without a person's confirmation."""

    def check(self, missing: int, live: int) -> None:
        """Raise `PermanentJobError` if too many performers are missing. Their list is kept until the next scan."""
        if missing >= GUARD_MINIMUM and missing > self.maximum_share * live:
            raise PermanentJobError(
                GUARD_CODE,
                f"{missing} of {live} performers are missing at Sharegram and none was marked as deleted; "
                "a sync with confirmDeletionsOf and the id of this job confirms this list",
            )

    async def mark(self, job: JobContext, scan_id: int, marked: int, commit: Commit) -> int:
        """Mark the listed performers of a scan that Sharegram has no more; return how many are marked in all.

        One that Sharegram still has is written instead. Raises the errors of the client and of the database.
        """
        while True:
            await job.raise_if_stopped()
            async with self.database.read_connection() as connection:
                names, started_at = await scan_store.missing_of(connection, scan_id, CHUNK)
            if started_at is None:
                return marked
            present = await self._still_present(job, names)
            marked += await self._write(job, scan_id, names, present, started_at, marked, commit)

    async def _write(
        self, job: JobContext, scan_id: int, names: Sequence[str], present: Sequence[PerformerRecord],
        started_at: datetime, marked: int, commit: Commit,
    ) -> int:  # fmt: skip
        gone = sorted(set(names) - {each.performer_id for each in present})
        cause = SyncCause(f"sync-{job.job_id}", job.request_id or "")
        written: list[int] = []

        async def write() -> int:
            async with self.database.transaction() as tx:
                ids = await self.mirror.mark_deleted(tx, gone, started_at, cause)
                result = await self.mirror.write(tx, present, cause)
                await scan_store.remove(tx, scan_id, names)
                written[:] = [*ids, *result.written_ids]
                await commit(tx, marked + len(ids))
                return len(ids)

        try:
            return await retry_on_conflict(write)
        finally:
            await self.mirror.committed(written)

    async def _still_present(self, job: JobContext, names: Sequence[str]) -> list[PerformerRecord]:
        limit = asyncio.Semaphore(CONCURRENT_CALLS)
        caller = SharegramCaller.job(job.request_id)

        async def fetch(name: str) -> PerformerRecord | None:
            async with limit:
                return await fetch_or_none(self.sharegram, caller, name)

        async with task_group() as calls:
            tasks = [calls.create_task(fetch(name)) for name in names]
        return [record for task in tasks if (record := task.result()) is not None]


async def fetch_or_none(sharegram: SharegramClient, caller: SharegramCaller, name: str) -> PerformerRecord | None:
    """Return Sharegram's record of a performer, or None if it answers 404. Raises the other errors of the client."""
    try:
        return await sharegram.performer(caller, name)
    except SharegramRejected as error:
        if error.sharegram_status == NOT_FOUND:
            return None
        raise
