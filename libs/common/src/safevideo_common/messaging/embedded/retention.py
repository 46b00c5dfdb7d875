"""Records older than their topic keeps them are deleted; offsets are never given twice."""

import asyncio
import time
from functools import partial
from typing import Final

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.embedded import reading, writing
from safevideo_common.messaging.embedded.catalogue import Catalogue
from safevideo_common.messaging.embedded.file import LogFile
from safevideo_common.messaging.port import TopicPartition

PERIOD_SECONDS: Final = 3600.0
RECORDS_AT_ONCE: Final = 5_000
"""Of one transaction, so that publishing never waits long behind it."""


async def keep_enforcing(catalogue: Catalogue, file: LogFile) -> None:
    """Delete what is too old, now and then again, for ever. A disk that fails is tried again in the next round."""
    while True:
        for partition in list(catalogue.ids):
            try:
                await _enforce(catalogue, file, partition)
            except LogUnavailable:
                break
        await asyncio.sleep(PERIOD_SECONDS)


async def _enforce(catalogue: Catalogue, file: LogFile, partition: TopicPartition) -> None:
    oldest_kept_ms = time.time_ns() // 1_000_000 - catalogue.retention_ms[partition]
    kept = catalogue.kept(partition)
    start = await file.ask(lambda connection: reading.offset_at(connection, kept, oldest_kept_ms))
    while (reached := catalogue.starts[partition]) < start:
        # Readers skip them before they go, so that none waits for a record that is no more.
        until = catalogue.starts[partition] = min(start, reached + RECORDS_AT_ONCE)
        await file.write(partial(writing.delete_before, partition_id=kept.partition_id, offset=until))
