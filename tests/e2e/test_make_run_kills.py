"""`kill -9` of a whole `make run` in mid-stream, again and again, loses nothing: all that it knows is in files."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable
from safevideo_devstack.run.testing import free_offset, serving_run
from safevideo_testkit.oracle.checks import check, insert_requests, outcomes, wait_until_settled
from safevideo_testkit.oracle.expected import Ledger, write_ledger
from safevideo_testkit.webhook_sender import send_all

KILLS = 5


async def test_a_make_run_that_is_killed_five_times_ends_as_the_provider_made_it(tmp_path: Path) -> None:
    folder, offset = tmp_path / "run", free_offset()
    ledger = write_ledger(performers=100, events=2000, seed=11, prefix=f"sg_{token_hex(4)}")
    variables = await _first_run(folder, offset)
    url, secret = variables["SAFEVIDEO_WEBHOOK_URL"], variables["SHAREGRAM_WEBHOOK_SECRET"]
    async with Database.open(variables["DATABASE_URL"]) as database, asyncio.TaskGroup() as tasks:
        await insert_requests(database, ledger)
        sending = tasks.create_task(send_all(url, secret, ledger.sendings))
        for kill in range(1, KILLS + 1):
            async with serving_run(folder, offset) as run:
                await _until_decided(database, ledger, len(ledger.events) * kill // (KILLS + 1))
                await run.kill()
        async with serving_run(folder, offset):
            await sending
            await wait_until_settled(database, ledger)
            await check(database, ledger)


async def _first_run(folder: Path, offset: int) -> Mapping[str, str]:
    """It makes the database and the secrets."""
    async with serving_run(folder, offset) as run:
        assert await run.interrupt() == 0
        return run.environment()


async def _until_decided(database: Database, ledger: Ledger, events: int) -> None:
    decided = 0
    async with asyncio.timeout(300):
        while decided < events:
            with suppress(DatabaseUnavailable):  # busy: SQLite recovers first what was killed
                decided = sum((await outcomes(database, ledger)).values())
            await asyncio.sleep(0.01)
