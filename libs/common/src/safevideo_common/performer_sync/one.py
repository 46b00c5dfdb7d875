"""The sync of one performer, while a person waits for it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from secrets import token_hex
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.errors import PerformerNotFound, SafeVideoError, SyncRateLimited
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.performer_sync.mirror import PerformerMirror, SyncCause
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.errors import FailureReason, InvalidResponse, SharegramRejected
from safevideo_common.sharegram.operations import PerformerRecord, SharegramCaller

SYNC_EVERY: Final = timedelta(minutes=5)
NOT_FOUND: Final = 404

AlsoInTransaction = Callable[[AsyncConnection, bool], Awaitable[None]]
"""A further effect in the transaction that writes the performer; it gets whether the performer has changed."""


class PerformerSync:
    """Fetches one performer from Sharegram and writes it. A repeated call changes nothing."""

    def __init__(
        self, database: Database, sharegram: SharegramClient, mirror: PerformerMirror, clock: Clock,
        logger: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        self._database = database
        self._sharegram = sharegram
        self._mirror = mirror
        self._clock = clock
        self._logger = logger.bind(stream="sync")

    async def sync(
        self, sharegram_id: str, caller: SharegramCaller, *, force: bool, also: AlsoInTransaction | None = None
    ) -> bool:
        """Return whether the performer has changed or is new here. `also` adds to the transaction that writes it.

        Raises `SyncRateLimited` without `force` for five minutes after the last success, `PerformerNotFound` if
        Sharegram has no such performer, and the errors of the client and of the database. Nothing is then written.
        """
        if not force:
            await self._check_interval(sharegram_id)
        try:
            updated = await self._fetch_and_write(sharegram_id, caller, also)
        except SafeVideoError as error:
            self._logger.error(
                "Performer sync failed", code=error.code, performer_id=sharegram_id, request_id=caller.request_id
            )
            raise
        self._logger.info(
            "Performer synced", performer_id=sharegram_id, updated=updated, force=force, request_id=caller.request_id
        )
        return updated

    async def _check_interval(self, sharegram_id: str) -> None:
        async with self._database.read_connection() as connection:
            last = await performers.last_synced_at(connection, sharegram_id)
        if last is not None and (remaining := last + SYNC_EVERY - self._clock()) > timedelta(0):
            raise SyncRateLimited(
                "This performer was synced in the last five minutes.", retry_after=int(remaining.total_seconds()) + 1
            )

    async def _fetch_and_write(
        self, sharegram_id: str, caller: SharegramCaller, also: AlsoInTransaction | None
    ) -> bool:
        record = await self._fetch(sharegram_id, caller)
        cause = SyncCause(f"sync-{token_hex(8)}", caller.request_id)
        written: list[int] = []

        async def write() -> bool:
            async with self._database.transaction() as tx:
                result = await self._mirror.write(tx, [record], cause)
                if result.invalid:
                    raise InvalidResponse(FailureReason.INVALID_FIELD, "Sharegram's record of this performer is wrong.")
                await performers.record_synced(tx, sharegram_id, self._clock())
                updated = bool(result.updated or result.created)
                if also is not None:
                    await also(tx, updated)
                written[:] = result.written_ids
                return updated

        try:
            return await retry_on_conflict(write)
        finally:
            await self._mirror.committed(written)

    async def _fetch(self, sharegram_id: str, caller: SharegramCaller) -> PerformerRecord:
        try:
            record = await self._sharegram.performer(caller, sharegram_id)
        except SharegramRejected as error:
            if error.sharegram_status == NOT_FOUND:
                raise PerformerNotFound("Sharegram has no such performer.") from error
            raise
        if record.performer_id != sharegram_id:
            raise InvalidResponse(FailureReason.INVALID_FIELD, "Sharegram answered with another performer.")
        return record
