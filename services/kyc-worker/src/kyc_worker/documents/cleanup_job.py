"""The job `kyc_document_cleanup`: compares the files of documents with their rows."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.documents import store as documents
from safevideo_common.documents.files import FileInventory
from safevideo_common.documents.store import FileFault
from safevideo_common.jobs.handler import JobContext
from safevideo_common.observability.logs import FilteringBoundLogger

DIGITS: Final = "0123456789abcdef"
"""The files are compared in sixteen parts, by the first digit of their names."""
MIN_AGE: Final = timedelta(days=1)
"""An upload lasts minutes at most. So an older file that has no row now never gets one."""


class DocumentCleanupJob:
    """The handler. Each part is a step, and a repeated part finds nothing more to do.

    - A file without a row is deleted when it is older than any upload may last: its upload failed, or its row is gone.
    - A row without its file gets the fault `missing`. Then it does not count as uploaded, and an alert is raised. If
      the file is there again, the fault ends.
    """

    def __init__(self, database: Database, files: FileInventory, clock: Clock, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._files = files
        self._clock = clock
        self._logger = logger

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """See `JobHandler`."""
        counts = {"deleted": 0, "missing": 0}
        done = (job.cursor or {}).get("done")
        for digit in DIGITS:
            if isinstance(done, str) and digit <= done:
                continue
            await self._compare(job, digit, counts)
        return counts

    async def _compare(self, job: JobContext, digit: str, counts: dict[str, int]) -> None:
        # Rows first: a file is written before its row, and deleted after it.
        async with self._database.read_connection() as reading:
            rows = await documents.files_of_rows(reading, digit)
        written_at = await self._files.find(digit)
        await job.raise_if_stopped()
        latest = self._clock() - MIN_AGE
        for name in [each for each, at in written_at.items() if each not in rows and at < latest]:
            await self._files.delete(name)
            counts["deleted"] += 1
        missing = [row.id for name, row in rows.items() if name not in written_at and row.fault is None]
        found = [row.id for name, row in rows.items() if name in written_at and row.fault is FileFault.MISSING]
        async with job.step({"done": digit}, processed=DIGITS.index(digit) + 1, total=len(DIGITS)) as tx:
            # A document that was replaced meanwhile has no row any more.
            counts["missing"] += await documents.set_fault(tx, missing, FileFault.MISSING)
            await documents.set_fault(tx, found, None)
        if missing:
            self._logger.error("KYC document missing", code="DOCUMENT_UNREADABLE", documents=missing[:10])
