"""The deleter of files: the only place that deletes files of documents, always after a commit and in no transaction."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from kyc_worker.documents.store_mark import CALL_SECONDS, StoreMark, StoreMismatch
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.documents import deletions
from safevideo_common.documents import store as documents
from safevideo_common.documents.deletions import DeletionReason, FileDeletion
from safevideo_common.documents.files import RETRY_AFTER_SECONDS, FileStore, unavailable_on
from safevideo_common.errors import FilesUnavailable, SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.privacy.holds import active_holds
from safevideo_common.resilience.backoff import Backoff, jittered
from safevideo_common.resilience.outages import Outage
from safevideo_common.users.person import person_of_performer

POLL_SECONDS: Final = 15.0
BATCH: Final = 50
MAX_FAILURES: Final = 3
"""After as many failures in a row the store counts as unavailable, and the rest of the batch waits."""
HELD_FOR: Final = timedelta(hours=1)
"""A file that a legal hold keeps is looked at again after this time."""


class DocumentDeleter:
    """Deletes the files that `document_deletions` names. What is repeated has no further effect.

    - Several processes share the work: a claim lasts a minute, and longer after each failure.
    - A file that a row names again, as after a restore, is kept.
    - In a store with another mark than the database's nothing is deleted, and what is due waits.
    - A replaced file is kept while a legal hold is on its person.
    """

    def __init__(
        self,
        database: Database,
        store: FileStore,
        mark: StoreMark,
        clock: Clock,
        logger: FilteringBoundLogger,
        seconds: float = CALL_SECONDS,
    ) -> None:
        """`seconds` is the time that the deletion of one file may take."""
        self._seconds = seconds
        self._database = database
        self._store = store
        self._mark = mark
        self._clock = clock
        self._logger = logger

    async def run(self) -> None:
        """Delete what is due until cancelled."""
        outage = Outage(
            self._logger,
            Backoff(1.0, 300.0),
            began="Document files are not deleted",
            ended="Document files are deleted again",
        )
        while True:
            try:
                while await self.delete_due():
                    pass
            except SafeVideoError as error:
                await outage.failed(error)
            else:
                outage.recovered()
                await asyncio.sleep(jittered(POLL_SECONDS))

    async def delete_due(self) -> int:
        """Delete one batch of files that are due, and return how many there were.

        Raises `FilesUnavailable`, `StoreMismatch`, and the errors of the database.
        """
        async with self._database.read_connection() as reading:
            if not await deletions.are_due(reading, self._clock()):
                return 0
        await self._mark.check()
        async with self._database.transaction() as tx:
            claimed = await deletions.claim(tx, self._clock(), BATCH)
        await self._delete(await self._without_held(claimed))
        return len(claimed)

    async def delete_of(self, request_ids: Collection[int]) -> None:
        """Delete all files of these requests that are to be deleted, whoever has claimed them.

        Raises `FilesUnavailable` unless all of them are gone, also for a store with another mark.
        """
        async with self._database.read_connection() as reading:
            found = await deletions.of_requests(reading, request_ids)
        if not found:
            return
        try:
            await self._mark.check()
        except StoreMismatch as error:
            raise FilesUnavailable(error.message, retry_after=RETRY_AFTER_SECONDS) from error
        await self._delete(found)

    async def _delete(self, chosen: Sequence[FileDeletion]) -> None:
        """Delete files, then the rows of those that are gone. Raises `FilesUnavailable` if one is not."""
        names = [each.file_name for each in chosen]
        async with self._database.read_connection() as reading:
            named = await documents.named_files(reading, names)
        done: list[int] = []
        failures, last_error = 0, None
        for each in chosen:
            if each.file_name in named:
                self._logger.warning("Document file kept: a row names it", file=each.file_name, reason=each.reason)
            else:
                try:
                    await self._delete_one(each.file_name)
                except FilesUnavailable as error:
                    failures, last_error = failures + 1, error
                    if failures == MAX_FAILURES:
                        break
                    continue
            failures = 0
            done.append(each.id)
        async with self._database.transaction() as tx:
            await deletions.remove(tx, done)
        if last_error is not None:
            raise last_error

    async def _delete_one(self, name: str) -> None:
        with unavailable_on(TimeoutError, ValueError):  # ValueError: somebody wrote a row with a name that is none
            async with asyncio.timeout(self._seconds):
                await self._store.delete_file(name)

    async def _without_held(self, claimed: Sequence[FileDeletion]) -> Sequence[FileDeletion]:
        """Return those that no legal hold keeps, and look at the others later.

        Only a replaced file can be held: whoever removed a row had looked for holds.
        """
        replaced = {
            each.request_id
            for each in claimed
            if each.reason is DeletionReason.REPLACED and each.request_id is not None
        }
        held_requests = {request_id for request_id in sorted(replaced) if await self._is_held(request_id)}
        held_ids = [
            each.id for each in claimed if each.reason is DeletionReason.REPLACED and each.request_id in held_requests
        ]
        if held_ids:
            async with self._database.transaction() as tx:
                await deletions.postpone(tx, held_ids, self._clock() + HELD_FOR)
        return [each for each in claimed if each.id not in held_ids]

    async def _is_held(self, request_id: int) -> bool:
        async with self._database.read_connection() as reading:
            stored = await kyc_requests.get(reading, request_id)
            if stored is None:
                return False
            return bool(await active_holds(reading, await person_of_performer(reading, stored.request.performer_id)))
