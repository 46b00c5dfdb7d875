"""The job `performer_fetch`: the whole record of performers of which a webhook has brought only a part."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.jobs.handler import JobContext, PermanentJobError
from safevideo_common.performer_sync.mirror import PerformerMirror, SyncCause
from safevideo_common.performer_sync.request import FetchParameters
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.operations import PerformerRecord, SharegramCaller
from sync_worker.performers.deletions import fetch_or_none


@dataclass(frozen=True, slots=True)
class PerformerFetchJob:
    """Fetches and writes performers one after the other. An attempt after a kill goes on at the next one."""

    database: Database
    sharegram: SharegramClient
    mirror: PerformerMirror

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """Return how many performers Sharegram has. Raises the errors of the client and of the database."""
        try:
            names = msgspec.convert(job.parameters, FetchParameters).performer_ids
        except msgspec.ValidationError as error:
            raise PermanentJobError("BAD_PARAMETERS", str(error)) from None
        progress = msgspec.convert(job.cursor or {"done": 0, "found": 0}, dict[str, int])
        for done in range(progress["done"], len(names)):
            await job.raise_if_stopped()
            record = await fetch_or_none(self.sharegram, SharegramCaller.job(job.request_id), names[done])
            progress = {"done": done + 1, "found": progress["found"] + (record is not None)}
            await self._write(job, record, progress, len(names))
        return {"requested": len(names), "found": progress["found"]}

    async def _write(self, job: JobContext, record: PerformerRecord | None, cursor: dict[str, int], total: int) -> None:
        written: list[int] = []

        async def write() -> None:
            async with self.database.transaction() as tx:
                cause = SyncCause(f"fetch-{job.job_id}", job.request_id or "")
                result = await self.mirror.write(tx, [record] if record else [], cause)
                written[:] = result.written_ids
                await job.checkpoint(tx, cursor, processed=cursor["done"], total=total)

        try:
            await retry_on_conflict(write)
        finally:
            await self.mirror.committed(written)
