"""The job `kyc_document_cleanup`: compares the files of documents with their rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from kyc_worker.documents.store_mark import Refusal, StoreMark, StoreMismatch, set_refusal
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.documents import deletions
from safevideo_common.documents import store as documents
from safevideo_common.documents.deletions import DeletionReason
from safevideo_common.documents.files import FileInventory
from safevideo_common.documents.store import FileFault
from safevideo_common.jobs.handler import JobContext, PermanentJobError
from safevideo_common.kyc.requests import ACCEPT_ORPHANS, ADOPT_STORE
from safevideo_common.observability.logs import FilteringBoundLogger

DIGITS: Final = "0123456789abcdef"
"""The files are compared in sixteen parts, by the first digit of their names."""
MIN_AGE: Final = timedelta(days=1)
"""An upload lasts minutes at most. So an older file that has no row now never gets one."""
SECOND_LOOK: Final = timedelta(days=1)
"""The time from the comparison that finds a file without a row to its deletion, which looks for a row again."""
GUARD_MINIMUM: Final = 20
GUARD_SHARE: Final = 0.05
"""With more files without a row than both, none of them is deleted: the database is not the right one."""
MAX_ORPHANS: Final = 10_000
"""Of one run. What is over it is found by the next one."""
ORPHANS_CODE: Final = "DOCUMENT_ORPHANS_NEED_CONFIRMATION"


@dataclass(slots=True)
class _Found:
    """Files and rows that a comparison has found so far."""

    files: int = 0
    missing: int = 0
    orphan_count: int = 0
    orphans: list[str] = field(default_factory=list)

    def add_orphans(self, names: list[str]) -> None:
        self.orphan_count += len(names)
        self.orphans += names[: MAX_ORPHANS - len(self.orphans)]


class DocumentCleanupJob:
    """The handler. It deletes nothing itself. A repeated run finds nothing more to do.

    - A file without a row that is older than any upload may last is to be deleted a day later, if it has no row then.
    - A row without its file gets the fault `missing`. Then it does not count as uploaded, and an alert is raised. If
      the file is there again, the fault ends.
    - In a store with another mark, or with too many files without a row, no file is deleted and an alert is raised.
    """

    def __init__(
        self, database: Database, files: FileInventory, mark: StoreMark, clock: Clock, logger: FilteringBoundLogger
    ) -> None:
        self._database = database
        self._files = files
        self._mark = mark
        self._clock = clock
        self._logger = logger

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """See `JobHandler`. The parameters are what an operator has confirmed: another store, or a number of files."""
        adopt, accepted = job.parameters.get(ADOPT_STORE, False), job.parameters.get(ACCEPT_ORPHANS, 0)
        if not isinstance(adopt, bool) or type(accepted) is not int:
            raise PermanentJobError("PARAMETERS_INVALID", "adoptStore must be a boolean, acceptOrphans a number")
        if adopt:
            await self._mark.adopt()
        try:
            await self._mark.check()
        except StoreMismatch as error:
            raise PermanentJobError(error.code, error.message) from error
        found = _Found()
        for digit in DIGITS:
            await self._compare(job, digit, found)
        limit = max(GUARD_MINIMUM, GUARD_SHARE * found.files, accepted)
        is_refused = found.orphan_count > limit
        async with job.step() as tx:
            await set_refusal(tx, Refusal.TOO_MANY_ORPHANS if is_refused else None)
            if not is_refused:
                await deletions.record(tx, found.orphans, None, DeletionReason.ORPHAN, self._clock(), after=SECOND_LOOK)
        if is_refused:
            self._refuse(found)
        return {"orphans": found.orphan_count, "missing": found.missing}

    async def _compare(self, job: JobContext, digit: str, found: _Found) -> None:
        # In this order: a file is written before its row, and deleted after it, and after that the order to delete it.
        async with self._database.read_connection() as reading:
            rows = await documents.files_of_rows(reading, digit)
            to_delete = await deletions.names_of(reading, digit)
        written_at = await self._files.find(digit)
        await job.raise_if_stopped()
        latest = self._clock() - MIN_AGE
        found.files += len(written_at)
        found.add_orphans(
            [name for name, at in written_at.items() if name not in rows and name not in to_delete and at < latest]
        )
        missing = [row.id for name, row in rows.items() if name not in written_at and row.fault is None]
        back = [row.id for name, row in rows.items() if name in written_at and row.fault is FileFault.MISSING]
        async with job.step(processed=DIGITS.index(digit) + 1, total=len(DIGITS)) as tx:
            # A document that was replaced meanwhile has no row any more.
            found.missing += await documents.set_fault(tx, missing, FileFault.MISSING)
            await documents.set_fault(tx, back, None)
        if missing:
            self._logger.error("KYC document missing", code="DOCUMENT_UNREADABLE", documents=missing[:10])

    def _refuse(self, found: _Found) -> None:
        """Log and fail. Raises `PermanentJobError`."""
        self._logger.error(
            "Documents are not deleted",
            code=ORPHANS_CODE,
            files=found.files,
            orphans=found.orphan_count,
            examples=found.orphans[:10],
        )
        raise PermanentJobError(
            ORPHANS_CODE, f"{found.orphan_count} of {found.files} files have no row, so none of them is deleted"
        )
