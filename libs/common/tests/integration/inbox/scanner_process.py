"""A scanner of the database in the first argument that hangs before its commit."""

import asyncio
import os
import sys

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_testkit.harness.processor import ProcessorHarness, SampleHandler, SampleState


class Hanging(SampleHandler):
    """Never comes back from `store`."""

    async def store(self, tx: AsyncConnection, states: SampleState) -> None:
        await super().store(tx, states)
        os.write(1, b"written, not committed\n")
        await asyncio.Event().wait()


async def scan(url: str) -> None:
    async with Database.open(url) as database:
        harness = ProcessorHarness(database, build_logger("test", LogSink(None, stdout=False)), Hanging())
        await harness.scan_after(10)


asyncio.run(scan(sys.argv[1]))
