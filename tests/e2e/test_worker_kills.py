"""SIGKILL of the workers mid-stream loses nothing: a transaction is rolled back, or its events are recognised later.

`make chaos` kills them five times; `WORKER_KILLS` says how often. Each time their groups wait for the dead members.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import SECRET, environment, ingest_only
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.checks import count_events, insert_requests
from safevideo_testkit.oracle.stream import write_stream
from safevideo_testkit.oracle.system import SETTLE_SECONDS, open_system
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.stacks import REAL, StackUnderTest
from safevideo_testkit.webhook_sender import send_all

KILLS = int(os.environ.get("WORKER_KILLS", "2"))
EVENTS = 300 * KILLS
WORKERS = ("sync_worker", "kyc_worker")


@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_workers_apply_each_event_once_when_they_are_killed_mid_stream(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    stream = write_stream(performers=50, events=EVENTS, seed=5, prefix=f"sg_{token_hex(4)}")
    async with (
        open_system(stack, broker) as system,
        ingest_only(stack, broker, log) as url,
        _workers(environment(stack), tmp_path) as workers,
    ):

        async def has_reached(events: int) -> bool:
            return await count_events(system.database) >= events

        await insert_requests(system.database, stream.performers)
        sending = asyncio.create_task(send_all(url, SECRET, stream.webhooks))
        for kill in range(1, KILLS + 1):
            await eventually(partial(has_reached, EVENTS * kill // (2 * KILLS)), SETTLE_SECONDS)
            for worker in workers:
                await worker.kill()
                await worker.start()
        await sending
        await system.check_all_applied(stream)


@asynccontextmanager
async def _workers(variables: Mapping[str, str], folder: Path) -> AsyncIterator[list[ServiceProcess]]:
    async with AsyncExitStack() as running:
        workers = [ServiceProcess(module, variables, folder / f"{module}.out") for module in WORKERS]
        for worker in workers:
            running.push_async_callback(worker.stop)
            await worker.start()
        yield workers
