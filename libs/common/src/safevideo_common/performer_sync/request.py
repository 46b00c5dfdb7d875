"""The request of a sync of all performers: the parameters of the job `performer_sync`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.errors import SyncAlreadyInProgress, ValidationFailed
from safevideo_common.events.envelope import ExternalId, Timestamp
from safevideo_common.events.topics import SYNC_WORKER
from safevideo_common.jobs.model import Job, NewJob
from safevideo_common.jobs.store import admin as job_admin

SYNC_JOB: Final = "performer_sync"
FETCH_JOB: Final = "performer_fetch"
UNIQUE_KEY: Final = "performer_sync"
SYNC_REQUESTED: Final = "performers.sync_requested"
MAX_FETCHED: Final = 500
"""Performers of one `performer_fetch` job."""


class SyncParameters(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The extent of a sync. An incremental one begins where the last complete one ended, or at `since`."""

    full_sync: bool = False
    since: Timestamp | None = None
    include_inactive: bool = True
    """False leaves out performers that are suspended or rejected."""
    update_existing: bool = True
    """False writes performers only that are not here."""
    dry_run: bool = False
    """Report what differs, and write nothing."""
    confirm_deletions_of: int | None = None
    """The job whose deletions a person confirms. Nothing is scanned."""

    @property
    def is_complete(self) -> bool:
        """Return True if the scan sees every performer and leaves none out."""
        return self.full_sync and self.include_inactive and self.update_existing

    def document(self) -> dict[str, object]:
        """Return the parameters for the job's row."""
        document: dict[str, object] = {"fullSync": self.full_sync}
        if self.since is not None:
            document["since"] = rfc3339(self.since)
        document |= {"includeInactive": self.include_inactive, "updateExisting": self.update_existing}
        if self.dry_run:
            document["dryRun"] = True
        if self.confirm_deletions_of is not None:
            document["confirmDeletionsOf"] = self.confirm_deletions_of
        return document

    def faults(self) -> dict[str, str]:
        """Return the invalid fields, each with the reason."""
        faults = {}
        if self.full_sync and self.since is not None:
            faults["since"] = "a full sync has no beginning"
        if self.confirm_deletions_of is not None and (self.dry_run or self.full_sync or self.since is not None):
            faults["confirmDeletionsOf"] = "stands alone"
        return faults


class FetchParameters(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The performers that a webhook named and that are not whole here."""

    performer_ids: Annotated[list[ExternalId], msgspec.Meta(min_length=1, max_length=MAX_FETCHED)]


def parse_sync(document: Mapping[str, object]) -> SyncParameters:
    """Parse the result of `SyncParameters.document`. Raise `ValueError`, with a message without values."""
    try:
        parameters = msgspec.convert(document, SyncParameters)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if faults := parameters.faults():
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in faults.items()))
    return parameters


async def _keep_nothing(_tx: AsyncConnection, _job: Job) -> None:
    pass


async def enqueue_sync(
    database: Database, parameters: SyncParameters, caller: Caller, clock: Clock,
    keep: Callable[[AsyncConnection, Job], Awaitable[None]] = _keep_nothing,
) -> Job:  # fmt: skip
    """Queue the sync for sync-worker, and record it in the audit log. `keep` adds to that transaction.

    Raises `SyncAlreadyInProgress` if one that a person started is queued or running, and `ValidationFailed`.
    """
    if faults := parameters.faults():
        raise ValidationFailed("Some fields of the sync are wrong.", details=faults)
    new = NewJob(
        SYNC_JOB,
        parameters.document(),
        runner=SYNC_WORKER,
        unique_key=UNIQUE_KEY,
        created_by=caller.name,
        request_id=caller.request_id,
    )

    async def enqueue() -> Job:
        async with database.transaction() as tx:
            job_id, is_new = await job_admin.enqueue(tx, new)
            if not is_new:
                raise SyncAlreadyInProgress("A sync is queued or running.", details={"jobId": job_id})
            details = {"jobId": job_id, "parameters": new.parameters}
            await audit_store.record(tx, caller.entry(SYNC_REQUESTED, clock, details))
            job = await job_admin.get(tx, job_id)
            await keep(tx, job)
            return job

    return await retry_on_conflict(enqueue)


async def enqueue_fetch(tx: AsyncConnection, performer_ids: list[str]) -> None:
    """Queue the fetch of performers, in the transaction of the event that named them."""
    for begin in range(0, len(performer_ids), MAX_FETCHED):
        parameters = {"performerIds": performer_ids[begin : begin + MAX_FETCHED]}
        await job_admin.enqueue(tx, NewJob(FETCH_JOB, parameters, runner=SYNC_WORKER))
