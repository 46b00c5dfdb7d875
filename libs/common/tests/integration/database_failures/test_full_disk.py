"""A disk that is full: the files of a server of the test's own may not grow any more."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.harness.consumer import run_sample_consumer, wait_for_pause, wait_for_words
from safevideo_testkit.harness.processor import ProcessorHarness

MEBIBYTE = 1 << 20
PERFORMERS = 300
"""Their rows do not fit into what is free in the pages of a full file."""

FILL = text(
    "INSERT INTO event_inbox (consumer_group, event_id, event_type, source_topic, source_partition, source_offset,"
    " last_offset, occurred_at, received_at, decided_at, status, payload)"
    " WITH RECURSIVE rows_of (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM rows_of WHERE number < 50)"
    " SELECT 'filler', UUID(), 'filler', '', 0, 0, 0, NOW(), NOW(), NOW(), 'dead', REPEAT('x', :size) FROM rows_of"
)


@contextmanager
def without_room(data: Path) -> Iterator[None]:
    """No file of the server grows beyond the largest that it has now."""
    server = int((data / "server.pid").read_text())
    largest = max(file.stat().st_size for file in data.iterdir() if file.is_file())
    before = resource.prlimit(server, resource.RLIMIT_FSIZE, (largest + MEBIBYTE, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(server, resource.RLIMIT_FSIZE, before)


async def filled(database: Database) -> None:
    """Take all the room that the inbox's file may have."""
    for size in (60_000, 6_000, 600):
        with pytest.raises(DatabaseUnavailable, match="1114"):
            await fill_until_refused(database, size)


async def fill_until_refused(database: Database, size: int) -> None:
    while True:
        async with database.transaction() as tx:
            await tx.execute(FILL, {"size": size})


async def test_consumer_retries_until_the_disk_has_space(
    mysql_server: RunningServer,
    url: str,
    database: Database,
    seen: ProcessorHarness,
    log: FilteringBoundLogger,
    logs: Path,
    tmp_path: Path,
) -> None:
    async with database.read_connection() as reading:
        data = Path(str(await reading.scalar(text("SELECT @@datadir"))))
    async with Database.open(url) as of_worker, run_sample_consumer(of_worker, tmp_path, log) as stream:
        with without_room(data):
            await filled(database)
            for number in range(PERFORMERS):
                await stream.publish(f"sg_{number}", "a")
            await wait_for_pause(logs, "1114")
            assert mysql_server.alive()
        async with database.transaction() as tx:
            await tx.execute(text("DELETE FROM event_inbox WHERE consumer_group = 'filler'"))
        await wait_for_words(seen, {f"sg_{number}": "a" for number in range(PERFORMERS)})
