"""The job `performer_sync`: reads Sharegram's performers page by page, and writes what differs here.

- A page, its change events and the job's cursor are one transaction, so an attempt after a kill goes on at its page.
- The next page is fetched while this one is written.
- A performer that changes during the scan comes again at its end. A newer webhook keeps what it wrote.
- An incremental scan begins at the watermark, less an overlap: a change may become visible at Sharegram after a later
  one. For the same reason the watermark stays a while behind the beginning of the scan.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.errors import SafeVideoError
from safevideo_common.jobs.handler import JobContext, JobInterrupted, PermanentJobError, RetryableJobError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.performer_sync.mirror import MirrorResult, PerformerMirror, SyncCause, compare
from safevideo_common.performer_sync.request import SyncParameters, parse_sync
from safevideo_common.sharegram.client import MAX_PAGE, PerformerPage, SharegramClient
from safevideo_common.sharegram.operations import SharegramCaller
from sync_worker.performers import scan_store
from sync_worker.performers.deletions import GUARD_CODE, Deletions
from sync_worker.performers.metrics import ScanOutcome, SyncMetrics

OVERLAP: Final = timedelta(minutes=5)
SAFETY_LAG: Final = timedelta(minutes=1)
INACTIVE: Final = frozenset({"suspended", "rejected"})
MAX_SAMPLE: Final = 100
"""Performers that a dry run names."""


class ScanProgress(msgspec.Struct, frozen=True, rename="camel"):
    """The cursor of the job. All numbers count from the beginning of the scan."""

    started_at: datetime
    since: datetime | None
    page: str | None = None
    """Sharegram's cursor of the next page; None before the first page and after the last one."""
    is_scanned: bool = False
    newest: datetime | None = None
    """The latest change at Sharegram that was read."""
    processed: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    invalid: int = 0
    missing: int = 0
    live: int = 0
    deleted: int = 0
    by_field: dict[str, int] = {}
    sample: list[dict[str, object]] = []

    def document(self) -> dict[str, object]:
        """Return the cursor for the job's row."""
        document: dict[str, object] = msgspec.to_builtins(self)
        return document

    def after(self, page: PerformerPage, result: MirrorResult, *, is_dry_run: bool) -> "ScanProgress":
        """Return the progress after a page."""
        by_field = dict(self.by_field)
        for name in (name for fields in result.fields.values() for name in fields):
            by_field[name] = by_field.get(name, 0) + 1
        differing = [{"performerId": name, "fields": fields} for name, fields in result.fields.items()]
        newest = [each.updated_at for each in page.performers]
        return msgspec.structs.replace(
            self,
            page=page.next_cursor,
            is_scanned=page.next_cursor is None,
            newest=max([*newest, *([self.newest] if self.newest else [])], default=None),
            processed=self.processed + len(page.performers) + len(page.invalid),
            created=self.created + result.created,
            updated=self.updated + result.updated,
            unchanged=self.unchanged + result.unchanged,
            invalid=self.invalid + result.invalid + len(page.invalid),
            by_field=by_field,
            sample=[*self.sample, *differing][:MAX_SAMPLE] if is_dry_run else [],
        )


@dataclass(frozen=True, slots=True)
class PerformerSyncJob:
    """Full and incremental syncs, dry runs, and the deletions that a person has confirmed."""

    database: Database
    sharegram: SharegramClient
    mirror: PerformerMirror
    deletions: Deletions
    clock: Clock
    logger: FilteringBoundLogger
    outbox_wakeup: asyncio.Event
    metrics: SyncMetrics
    page_size: int = MAX_PAGE

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """Return the numbers of the sync.

        Raises `PermanentJobError` for parameters that are wrong and for deletions that a person has to confirm. The
        errors of the client and of the database lead to another attempt.
        """
        try:
            parameters = parse_sync(job.parameters)
        except ValueError as error:
            raise PermanentJobError("BAD_PARAMETERS", str(error)) from None
        logger = self.logger.bind(stream="sync", job_id=job.job_id)
        try:
            if parameters.confirm_deletions_of is not None:
                result = await self._confirm(job, parameters.confirm_deletions_of)
            else:
                result = await self._sync(job, parameters)
        except JobInterrupted:
            raise
        except (SafeVideoError, PermanentJobError, RetryableJobError) as error:
            self.metrics.ended(ScanOutcome.GUARD if error.code == GUARD_CODE else ScanOutcome.FAILED)
            logger.error("Performer sync failed", code=error.code, reason=error.message, attempt=job.attempt)
            raise
        except Exception as error:
            self.metrics.ended(ScanOutcome.FAILED)
            logger.error("Performer sync failed", code="HANDLER_FAILED", reason=type(error).__name__)
            raise
        self.metrics.ended(ScanOutcome.COMPLETED)
        logger.info("Performer sync completed", full=parameters.full_sync, dry_run=parameters.dry_run)
        return result

    async def _sync(self, job: JobContext, parameters: SyncParameters) -> Mapping[str, object]:
        if job.cursor is None:
            progress = await self._begin(job, parameters)
        else:
            progress = msgspec.convert(job.cursor, ScanProgress)
        with self.metrics.track(progress.started_at):
            if not progress.is_scanned:
                progress = await self._scan(job, parameters, progress)
            is_complete = parameters.is_complete and not progress.invalid
            if is_complete:
                progress = await self._delete(job, parameters, progress)
        numbers = {name: getattr(progress, name) for name in ("created", "updated", "unchanged", "invalid")}
        result: dict[str, object] = {"scanned": progress.processed, **numbers, "byField": progress.by_field}
        if is_complete:
            result |= {"missing": progress.missing, "deleted": progress.deleted}
            result["drift"] = {
                "missingHere": progress.created,
                "extraHere": progress.missing,
                "different": progress.updated,
                "byField": progress.by_field,
            }
        if parameters.dry_run:
            result |= {"dryRun": True, "performers": progress.sample}
        return result

    async def _begin(self, job: JobContext, parameters: SyncParameters) -> ScanProgress:
        since = parameters.since
        if not parameters.full_sync and since is None:
            async with self.database.read_connection() as connection:
                watermark = await scan_store.watermark(connection)
            since = watermark and watermark - OVERLAP
        progress = ScanProgress(self.clock(), since)
        async with self.database.transaction() as tx:
            if parameters.is_complete:
                await scan_store.begin(tx)
            await job.checkpoint(tx, progress.document(), processed=0)
        return progress

    async def _scan(self, job: JobContext, parameters: SyncParameters, progress: ScanProgress) -> ScanProgress:
        next_page = self._fetch(job, progress.since, progress.page)
        try:
            while not progress.is_scanned:
                page = await _result_of(job, next_page)
                if page.next_cursor is not None:
                    if page.next_cursor == progress.page:
                        raise RetryableJobError("PAGE_REPEATED", "Sharegram's cursor does not move")
                    next_page = self._fetch(job, progress.since, page.next_cursor)
                progress = await self._write(job, parameters, progress, page)
        finally:
            next_page.cancel()
            await asyncio.wait({next_page})
        return progress

    def _fetch(self, job: JobContext, since: datetime | None, cursor: str | None) -> asyncio.Task[PerformerPage]:
        caller = SharegramCaller.job(job.request_id)
        call = self.sharegram.performers(caller, updated_since=since, cursor=cursor, limit=self.page_size)
        return asyncio.create_task(call, name=f"performer-page-{job.job_id}")

    async def _write(
        self, job: JobContext, parameters: SyncParameters, progress: ScanProgress, page: PerformerPage
    ) -> ScanProgress:
        records = [each for each in page.performers if parameters.include_inactive or each.status not in INACTIVE]
        cause = SyncCause(f"sync-{job.job_id}", job.request_id or "")
        written: list[int] = []

        async def write() -> ScanProgress:
            async with self.database.transaction() as tx:
                if parameters.dry_run:
                    result = await compare(tx, records)
                else:
                    result = await self.mirror.write(tx, records, cause, only_new=not parameters.update_existing)
                if parameters.is_complete:
                    names = [each.performer_id for each in page.performers]
                    await scan_store.record_found(tx, job.job_id, names, progress.started_at)
                after = progress.after(page, result, is_dry_run=parameters.dry_run)
                await self._advance_watermark(tx, parameters, after)
                written[:] = result.written_ids
                await job.checkpoint(tx, after.document(), processed=after.processed)
                return after

        try:
            after = await retry_on_conflict(write)
        finally:
            await self.mirror.committed(written)
        self.outbox_wakeup.set()
        if not parameters.dry_run:
            for result in ("created", "updated", "unchanged", "invalid"):
                self.metrics.written(result, getattr(after, result) - getattr(progress, result))
        await job.raise_if_stopped()
        return after

    async def _advance_watermark(self, tx: AsyncConnection, parameters: SyncParameters, progress: ScanProgress) -> None:
        """Move the watermark at the end of a scan that has left nothing out."""
        has_gap = parameters.dry_run or parameters.since is not None or progress.invalid
        if not progress.is_scanned or has_gap or not (parameters.include_inactive and parameters.update_existing):
            return
        if progress.newest is not None:
            position = min(progress.newest, progress.started_at - SAFETY_LAG)
            await scan_store.advance_watermark(tx, position, self.clock())

    async def _delete(self, job: JobContext, parameters: SyncParameters, progress: ScanProgress) -> ScanProgress:
        if not progress.live:
            async with self.database.transaction() as tx:
                missing, live = await scan_store.list_missing(tx, job.job_id, progress.started_at)
                progress = msgspec.structs.replace(progress, missing=missing, live=live)
                await job.checkpoint(tx, progress.document())
        self.metrics.drift(missing=progress.created, extra=progress.missing, different=progress.updated)
        if parameters.dry_run:
            return progress
        self.deletions.check(progress.missing, progress.live)

        async def commit(tx: AsyncConnection, marked: int) -> None:
            await job.checkpoint(tx, msgspec.structs.replace(progress, deleted=marked).document())

        deleted = await self.deletions.mark(job, job.job_id, progress.deleted, commit)
        self.metrics.written("deleted", deleted - progress.deleted)
        return msgspec.structs.replace(progress, deleted=deleted)

    async def _confirm(self, job: JobContext, scan_id: int) -> Mapping[str, object]:
        """Mark what the guard held back, of the list of that scan only."""
        marked = msgspec.convert(job.cursor or {"deleted": 0}, dict[str, int])["deleted"]
        if job.cursor is None:
            async with self.database.read_connection() as connection:
                _, started_at = await scan_store.missing_of(connection, scan_id, 1)
            if started_at is None:
                raise PermanentJobError("NO_DELETIONS_TO_CONFIRM", "no list of this scan is left; start a full sync")

        async def commit(tx: AsyncConnection, marked: int) -> None:
            await job.checkpoint(tx, {"deleted": marked}, processed=marked)

        return {"deleted": await self.deletions.mark(job, scan_id, marked, commit), "confirmed": scan_id}


async def _result_of(job: JobContext, page: asyncio.Task[PerformerPage]) -> PerformerPage:
    """Return the page, and look every second whether the job must stop."""
    while not page.done():
        await job.raise_if_stopped()
        await asyncio.wait({page}, timeout=1.0)
    return page.result()
