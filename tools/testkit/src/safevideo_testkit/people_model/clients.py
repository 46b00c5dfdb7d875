"""The clients of one replica, each with numbered points: the database, Redis, the store of documents, Sharegram."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pymysql
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.ext.asyncio import AsyncEngine

from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database, open_database
from safevideo_common.documents.files import FolderStore
from safevideo_common.errors import FilesUnavailable
from safevideo_common.sharegram.client import DocumentFile
from safevideo_common.sharegram.errors import FailureReason, SharegramUnavailable
from safevideo_common.sharegram.operations import (
    SharegramCaller,
    StartedVerification,
    UploadedDocument,
    VerificationOutcome,
    VerificationState,
)
from safevideo_testkit.people_model.points import Fault, Kind, Points

CONNECTION_LOST = 2013
DEADLOCK = 1213
SECONDS = 60.0


@asynccontextmanager
async def open_numbered_database(url: str, points: Points) -> AsyncIterator[Database]:
    """Open a database whose statements and commits are points."""
    async with open_database(url, 4) as engine:
        _number_statements(engine, points)
        _number_commits(engine, points)
        yield Database(engine, SECONDS)


def _number_statements(engine: AsyncEngine, points: Points) -> None:
    def before(_connection: Any, cursor: DBAPICursor, statement: str, parameters: Any, context: Any, many: bool) -> Any:
        connection = context.root_connection.connection.dbapi_connection

        async def come(driver: Any) -> None:
            await points.before(Kind.STATEMENT, statement, _failing_on(driver))

        try:
            connection.run_async(come)
        except pymysql.OperationalError as error:
            _after_failure(connection, error)
            raise
        return statement, parameters

    event.listen(engine.sync_engine, "before_cursor_execute", before, retval=True)


def _number_commits(engine: AsyncEngine, points: Points) -> None:
    # `do_commit` is the method of a dialect that commits; there is no event after it. For this engine alone.
    dialect = engine.dialect
    commit = dialect.do_commit

    def do_commit(dbapi_connection: Any) -> None:
        adapted = dbapi_connection
        afterwards: list[Fault | None] = []

        async def come(driver: Any) -> None:
            afterwards.append(await points.before(Kind.COMMIT, "COMMIT", _failing_on(driver)))

        async def end(driver: Any) -> None:
            if (fault := afterwards[0]) is not None:
                await points.happen(fault, _failing_on(driver))

        try:
            adapted.run_async(come)
            commit(adapted)
            adapted.run_async(end)
        except pymysql.OperationalError as error:
            _after_failure(adapted, error)
            raise

    dialect.do_commit = do_commit  # type: ignore[method-assign]  # see above


def _failing_on(driver: Any) -> Callable[[Fault], NoReturn]:
    def fail(fault: Fault) -> NoReturn:
        if fault is Fault.TIMED_OUT:
            raise TimeoutError
        if fault is Fault.DEADLOCK:
            raise pymysql.OperationalError(DEADLOCK, "Deadlock found when trying to get lock")
        raise pymysql.OperationalError(CONNECTION_LOST, "Lost connection to MySQL server during query")

    del driver
    return fail


def _after_failure(connection: Any, error: pymysql.OperationalError) -> None:
    """Leave the server as the error says: without a transaction, or without the connection."""

    async def end(driver: Any) -> None:
        if error.args[0] == DEADLOCK:
            await driver.rollback()
        else:
            driver.close()

    connection.run_async(end)


@asynccontextmanager
async def open_numbered_redis(url: str, db: int, points: Points) -> AsyncIterator[Redis]:
    """Open a client of Redis whose commands and pipelines are points."""
    async with open_redis(url, db, seconds=SECONDS) as plain:
        yield _NumberedRedis(plain, points)


def _fail_redis(fault: Fault) -> NoReturn:
    if fault is Fault.TIMED_OUT:
        raise RedisTimeoutError("Timeout reading from socket")
    raise RedisConnectionError("Connection closed by server.")


class _NumberedRedis(Redis):
    def __init__(self, plain: Redis, points: Points) -> None:
        super().__init__(connection_pool=plain.connection_pool)
        self._points = points

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """See `Redis`."""

        async def effect() -> Any:
            command: Any = super(_NumberedRedis, self).execute_command
            return await command(*arguments, **options)

        return await self._points.around(Kind.REDIS, str(arguments[0]), effect, _fail_redis)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """See `Redis`."""
        return _NumberedPipeline(self, transaction, shard_hint, self._points)


class _NumberedPipeline(Pipeline):
    def __init__(self, client: Redis, transaction: bool, shard_hint: str | None, points: Points) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._points = points

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """See `Pipeline`."""

        async def effect() -> list[Any]:
            return await super(_NumberedPipeline, self).execute(raise_on_error)

        return await self._points.around(Kind.REDIS, "PIPELINE", effect, _fail_redis)


class NumberedFiles:
    """A folder of documents whose calls are points. A file's time is that of the replica's clock."""

    def __init__(self, folder: Path, points: Points, clock: Clock) -> None:
        self._folder = folder
        self._files = FolderStore(folder)
        self._points = points
        self._clock = clock

    async def put(self, name: str, content: bytes) -> None:
        """See `FileStore`."""

        async def effect() -> None:
            await self._files.put(name, content)
            at = self._clock().timestamp()
            os.utime(self._folder / name[:2] / name, (at, at))

        await self._points.around(Kind.FILE, "put", effect, _fail_files)

    async def get(self, name: str) -> bytes | None:
        """See `FileStore`."""
        return await self._points.around(Kind.FILE, "get", lambda: self._files.get(name), _fail_files)

    async def delete_file(self, name: str) -> None:
        """See `FileStore`."""
        await self._points.around(Kind.FILE, "delete", lambda: self._files.delete_file(name), _fail_files)

    async def read_mark(self) -> str | None:
        """See `MarkedStore`."""
        return await self._points.around(Kind.FILE, "read mark", self._files.read_mark, _fail_files)

    async def write_mark(self, mark: str) -> None:
        """See `MarkedStore`."""
        await self._points.around(Kind.FILE, "write mark", lambda: self._files.write_mark(mark), _fail_files)

    async def find(self, digit: str) -> Mapping[str, datetime]:
        """See `FileInventory`."""
        return await self._points.around(Kind.FILE, "find", lambda: self._files.find(digit), _fail_files)


def _fail_files(fault: Fault) -> NoReturn:
    raise FilesUnavailable(f"Documents are unavailable ({fault}).", retry_after=1)


class SharegramStandIn:
    """Sharegram's part of a verification, in memory, with one answer for each piece of work."""

    def __init__(self) -> None:
        """`verifications` has the performer of each verification that has begun."""
        self.verifications: dict[str, str] = {}
        self.results: dict[str, VerificationOutcome] = {}


class NumberedSharegram:
    """The client of the stand-in. Its calls are points."""

    def __init__(self, stand_in: SharegramStandIn, points: Points, clock: Clock) -> None:
        self._stand_in = stand_in
        self._points = points
        self._clock = clock

    async def upload_document(
        self, caller: SharegramCaller, *, work: str, document: DocumentFile, form: Mapping[str, str]
    ) -> UploadedDocument:
        """See `SharegramClient`."""

        async def effect() -> UploadedDocument:
            return UploadedDocument(f"doc-{work[-40:]}", "stored")

        return await self._points.around(Kind.HTTP, "upload_document", effect, _fail_sharegram)

    async def start_verification(
        self, caller: SharegramCaller, *, work: str, performer_id: str, fields: Mapping[str, object]
    ) -> StartedVerification:
        """See `SharegramClient`."""

        async def effect() -> StartedVerification:
            self._stand_in.verifications[f"ver-{work}"] = performer_id
            return StartedVerification(f"ver-{work}", "pending")

        return await self._points.around(Kind.HTTP, "start_verification", effect, _fail_sharegram)

    async def verification(self, caller: SharegramCaller, verification_id: str) -> VerificationState:
        """See `SharegramClient`."""

        async def effect() -> VerificationState:
            performer_id = self._stand_in.verifications.get(verification_id, "sg_ann")
            result = self._stand_in.results.get(verification_id, VerificationOutcome("passed", 91.0))
            return VerificationState(verification_id, performer_id, "completed", result, self._clock())

        return await self._points.around(Kind.HTTP, "verification", effect, _fail_sharegram)


def _fail_sharegram(fault: Fault) -> NoReturn:
    raise SharegramUnavailable(FailureReason.TIMEOUT, f"Sharegram does not answer ({fault}).")
