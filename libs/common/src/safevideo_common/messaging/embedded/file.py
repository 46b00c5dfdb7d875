"""The log's file as the event loop sees it: one thread that writes, one that reads."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, TypeVar

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS
from safevideo_common.messaging.embedded import lock, schema
from safevideo_common.messaging.embedded.catalogue import Catalogue
from safevideo_common.messaging.embedded.writer import Job, Writer

Answer = TypeVar("Answer")

ANSWER_SECONDS: Final = 5.0
"""Of a disk that is well, plus a checkpoint of the write-ahead log."""


class LogFile:
    """Asks and writes with a deadline; whatever goes wrong is `LogUnavailable`."""

    def __init__(self, writer: Writer, connection: sqlite3.Connection, reader: ThreadPoolExecutor) -> None:
        self.writer = writer
        self._connection = connection
        self._reader = reader

    async def ask(self, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """The answer to `question`, which runs on the reader thread and sees whatever was acknowledged before."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._reader, question, self._connection)
        # A RuntimeError comes from an executor that was shut down: the log was closed under its user.
        except (sqlite3.Error, TimeoutError, RuntimeError) as error:
            raise LogUnavailable("The event log's file did not answer.", retry_after=RETRY_AFTER_SECONDS) from error

    async def write(self, job: Job) -> None:
        """Return once `job` is committed. After the deadline the outcome is unknown."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.writer.run(job)
        except TimeoutError as error:
            raise LogUnavailable("The event log's file took too long.", retry_after=RETRY_AFTER_SECONDS) from error


@asynccontextmanager
async def opened(folder: Path, catalogue: Catalogue) -> AsyncIterator[LogFile]:
    """The file in `folder`, made if need be, with `catalogue` filled from it.

    Raises `StartupError` when another process has it. Leaving writes what waits and closes everything.
    """
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs at a start
    path = folder / "events.sqlite"
    with lock.exclusive(folder / "events.lock"), closing(schema.connect(path)) as writing:
        schema.create_tables(writing)
        catalogue.load(writing)
        with (
            closing(schema.connect(path)) as reading,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-log-reader") as reader,
        ):
            writer = Writer(writing, catalogue.appended)
            try:
                yield LogFile(writer, reading, reader)
            finally:
                await writer.close()
