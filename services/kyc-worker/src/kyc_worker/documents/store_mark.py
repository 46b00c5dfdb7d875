"""The mark of the store of documents: a random id that the store and the database both have.

A database that was restored, is empty, or is another one has another mark than the store. So has a folder that is not
mounted. Then nothing is deleted until an operator says which store belongs to this database.
"""

import asyncio
from enum import StrEnum
from secrets import token_hex
from typing import Final, NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import document_stores
from safevideo_common.documents.files import MarkedStore, unavailable_on
from safevideo_common.errors import DatabaseConflict, SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger

CALL_SECONDS: Final = 30.0
"""A folder on another machine may hang."""
_ROW: Final = 1
_s: Final = document_stores.c


class Refusal(StrEnum):
    """Why no file is deleted."""

    STORE_MISMATCH = "store_mismatch"
    """The store and the database have different marks."""
    TOO_MANY_ORPHANS = "too_many_orphans"
    """More files have no row than ever should."""


class StoreMismatch(SafeVideoError):
    """The store of documents is not the one of this database. An operator decides."""

    code = "DOCUMENT_STORE_MISMATCH"


class _Expected(NamedTuple):
    mark: str
    is_confirmed: bool
    refusal: str | None


class StoreMark:
    """The mark that the database expects, compared with that of the store. All methods raise `ServiceUnavailable`."""

    def __init__(
        self,
        database: Database,
        store: MarkedStore,
        clock: Clock,
        logger: FilteringBoundLogger,
        seconds: float = CALL_SECONDS,
    ) -> None:
        """`seconds` is the time that one call of the store may take."""
        self._seconds = seconds
        self._database = database
        self._store = store
        self._clock = clock
        self._logger = logger

    async def check(self) -> None:
        """Return if this is the store of the database. Raises `StoreMismatch`, which the alert is made of.

        A new database marks a store without a mark. A kill on the way leaves what the next check completes.
        """
        expected = await self._expected()
        found = await self._found()
        if found is None and not expected.is_confirmed:
            await self._write(expected.mark)
            found = await self._found()
        if found != expected.mark:
            if expected.refusal != Refusal.STORE_MISMATCH:
                async with self._database.transaction() as tx:
                    await set_refusal(tx, Refusal.STORE_MISMATCH)
            self._logger.error(
                "Documents are not deleted", code=StoreMismatch.code, mark_of_store=found, expected_mark=expected.mark
            )
            raise StoreMismatch(f"The store has the mark {found}, the database expects {expected.mark}.")
        if not expected.is_confirmed or expected.refusal == Refusal.STORE_MISMATCH:
            async with self._database.transaction() as tx:
                await tx.execute(update(document_stores).values(confirmed_at=self._clock(), refusal=None))

    async def adopt(self) -> None:
        """Make the store the one of this database. A store without a mark gets that of the database."""
        expected = await self._expected()
        found = await self._found()
        if found is None:
            await self._write(expected.mark)
            found = expected.mark
        async with self._database.transaction() as tx:
            await tx.execute(update(document_stores).values(mark=found, confirmed_at=self._clock(), refusal=None))
        self._logger.info("Store of documents adopted", mark=found, former_mark=expected.mark)

    async def _found(self) -> str | None:
        with unavailable_on(TimeoutError):
            async with asyncio.timeout(self._seconds):
                return await self._store.read_mark()

    async def _write(self, mark: str) -> None:
        with unavailable_on(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._store.write_mark(mark)

    async def _expected(self) -> _Expected:
        """Return what the database expects. Of processes that start at once with a new database, one makes the mark."""
        found = await self._read()
        if found is None:
            row = {"id": _ROW, "mark": token_hex(16), "created_at": self._clock()}
            try:
                async with self._database.transaction() as tx:
                    await tx.execute(insert(document_stores).values(row))
            except DatabaseConflict:
                pass  # another process was first
            found = await self._read()
        assert found is not None
        return found

    async def _read(self) -> _Expected | None:
        async with self._database.read_connection() as reading:
            row = (await reading.execute(select(_s.mark, _s.confirmed_at, _s.refusal))).one_or_none()
        return None if row is None else _Expected(row.mark, row.confirmed_at is not None, row.refusal)


async def set_refusal(tx: AsyncConnection, refusal: Refusal | None) -> None:
    """Write why no file is deleted, or that files are."""
    await tx.execute(update(document_stores).values(refusal=refusal))


async def read_refusal(reading: AsyncConnection) -> str | None:
    """Return why no file is deleted, or None."""
    refusal: str | None = await reading.scalar(select(_s.refusal))
    return refusal
