"""A process that ends at one of its steps: before a commit, after it, before or after a file is written."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.documents.files import FileStore


class Killed(BaseException):
    """The process is dead. No handler of errors catches it, as none runs after SIGKILL."""


class KillPoint:
    """Ends a process at its step number `at`, from 1; never if it is None. A dead process has no further effect."""

    def __init__(self, at: int | None = None) -> None:
        self.reached = 0
        self._at = at

    def reach(self) -> None:
        """Count a step. Raises `Killed` at the chosen one and at every later one."""
        self.reached += 1
        if self._at is not None and self.reached >= self._at:
            raise Killed


class KillableDatabase(Database):
    """A database whose client dies before or after a commit. The server then rolls back what is not committed."""

    def __init__(self, database: Database, kill: KillPoint) -> None:
        self._database = database
        self._kill = kill

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """See `Database`."""
        async with self._database.transaction() as connection:
            yield connection
            self._kill.reach()
        self._kill.reach()

    @asynccontextmanager
    async def read_connection(self) -> AsyncIterator[AsyncConnection]:
        """See `Database`. A read is no step."""
        async with self._database.read_connection() as connection:
            yield connection


class KillableFiles:
    """A store of files whose writer dies before or after a write."""

    def __init__(self, files: FileStore, kill: KillPoint) -> None:
        self._files = files
        self._kill = kill

    async def put(self, name: str, content: bytes) -> None:
        """See `FileStore`."""
        self._kill.reach()
        await self._files.put(name, content)
        self._kill.reach()

    async def get(self, name: str) -> bytes | None:
        """See `FileStore`."""
        return await self._files.get(name)

    async def delete_file(self, name: str) -> None:
        """See `FileStore`."""
        self._kill.reach()
        await self._files.delete_file(name)
        self._kill.reach()
