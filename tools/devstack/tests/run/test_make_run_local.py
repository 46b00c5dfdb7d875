"""`make run STACK=local`: one process a service on real backends, each of them started again when it dies."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from safevideo_devstack.backends import Backends, process
from safevideo_devstack.backends.stack import local_database
from safevideo_devstack.run.config import SIMULATOR
from safevideo_devstack.run.context import SERVICES
from safevideo_devstack.run.testing import RunningRun, free_offset, serving_run

BACKENDS = ("kafka-1", local_database(), "redis")
BACK_SECONDS = 300.0


@pytest.fixture
def programs_of_the_local_stack(backends: Backends) -> None:
    """Skip unless the test run itself has the local stack: then its programs are installed."""
    if backends.stack != "local":
        pytest.skip(f"the test run is on the {backends.stack} stack")


@pytest.mark.usefixtures("programs_of_the_local_stack")
async def test_make_run_local_restarts_all_that_dies_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    async with serving_run(tmp_path / "run", free_offset(), "local") as run:
        pids = run.pids()
        assert pids.keys() == {"supervisor", SIMULATOR, *SERVICES, *BACKENDS}
        assert "not decided yet" not in run.output

        await _kill_all_but_the_supervisor(run, pids)
        await run.until_healthy(pids.keys(), seconds=BACK_SECONDS)
        assert not set(run.pids().values()) & (set(pids.values()) - {pids["supervisor"]})

        start_times = {pid: process.start_time_of(pid) for pid in run.pids().values()}
        assert await run.interrupt() == 0
        assert [pid for pid, start_time in start_times.items() if process.start_time_of(pid) == start_time] == []


async def _kill_all_but_the_supervisor(run: RunningRun, pids: Mapping[str, int]) -> None:
    for name in pids.keys() - {"supervisor"}:
        os.kill(pids[name], signal.SIGKILL)
    for name in pids.keys() - {"supervisor"}:
        await run.until(f"{name} has ended; it is started again", seconds=BACK_SECONDS)
