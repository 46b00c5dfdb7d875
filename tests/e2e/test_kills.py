"""`kill -9` of a worker in mid-stream costs nothing: what it had begun is rolled back or recognised."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import SECRET, begin_here, environment, ingest_only
from safevideo_testkit.oracle.changes import check_changes
from safevideo_testkit.oracle.checks import check, insert_requests, outcomes, wait_until_settled
from safevideo_testkit.oracle.expected import Ledger, write_ledger
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.stacks import REAL, StackUnderTest
from safevideo_testkit.webhook_sender import send_all

KILLS = 5
WORKERS = ("sync_worker", "kyc_worker")


@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_workers_that_are_killed_in_mid_stream_apply_each_event_once(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    ledger = write_ledger(performers=50, events=1500, seed=5, prefix=f"sg_{token_hex(4)}")
    await begin_here(stack, broker)
    async with (
        Database.open(stack.database_url) as database,
        ingest_only(stack, broker, log) as url,
        _workers(environment(stack), tmp_path) as workers,
    ):
        await insert_requests(database, ledger)
        sending = asyncio.create_task(send_all(url, SECRET, ledger.sendings))
        for kill in range(1, KILLS + 1):
            await _until_applied(database, ledger, len(ledger.events) * kill // (2 * KILLS))
            for worker in workers:
                await worker.kill()
                await worker.start()
        await sending
        await wait_until_settled(database, ledger)
        await check(database, ledger)
        await check_changes(broker, database, ledger)


@asynccontextmanager
async def _workers(variables: Mapping[str, str], folder: Path) -> AsyncIterator[list[ServiceProcess]]:
    async with AsyncExitStack() as running:
        workers = [ServiceProcess(module, variables, folder / f"{module}.out") for module in WORKERS]
        for worker in workers:
            running.push_async_callback(worker.stop)
            await worker.start()
        yield workers


async def _until_applied(database: Database, ledger: Ledger, events: int) -> None:
    async with asyncio.timeout(300):
        while sum((await outcomes(database, ledger)).values()) < events:
            await asyncio.sleep(0.01)
