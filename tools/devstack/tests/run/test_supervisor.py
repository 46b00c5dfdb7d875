import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safevideo_devstack.backends import process
from safevideo_devstack.run.state_files import PidRegistry
from safevideo_devstack.run.supervisor import Program, Supervisor, open_supervisor

SECONDS = 60.0


class Output:
    """The lines that a supervisor has printed, to wait for."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> str:
        async with asyncio.timeout(SECONDS):
            return await self.lines.get()


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
async def supervisor(tmp_path: Path, output: Output) -> AsyncIterator[Supervisor]:
    async with open_supervisor(
        PidRegistry(tmp_path / "pids", tmp_path / "processes.json"), output.lines.put_nowait
    ) as supervisor:
        yield supervisor


async def test_supervisor_restarts_a_program_that_dies(tmp_path: Path, supervisor: Supervisor, output: Output) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    supervisor.start(Program("sleeper", ("sh", "-c", f"echo $$ > {pipe}; exec sleep 600"), tmp_path / "output"))
    first = await _read_number(pipe)
    os.kill(first, signal.SIGKILL)
    assert "sleeper has ended; it is started again" in await output.next()
    second = await _read_number(pipe)
    assert second != first
    assert (tmp_path / "pids").read_text() == f"sleeper={second}\n"


async def test_supervisor_does_not_restart_a_stopped_program(tmp_path: Path, supervisor: Supervisor) -> None:
    sleeper, other = (Program(name, ("sleep", "600"), tmp_path / name) for name in ("sleeper", "other"))
    supervisor.start(sleeper)
    supervisor.start(other)
    await supervisor.stop(["sleeper"])
    assert (supervisor.is_running("sleeper"), supervisor.is_running("other")) == (False, True)
    assert (tmp_path / "pids").read_text().startswith("other=")


async def test_supervisor_kills_a_program_that_ignores_sigterm(tmp_path: Path, supervisor: Supervisor) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    deaf = f"trap '' TERM; echo $$ > {ready}; exec sleep 600"
    supervisor.start(Program("deaf", ("sh", "-c", deaf), tmp_path / "output"))
    pid = await _read_number(ready)
    async with asyncio.timeout(SECONDS):
        await supervisor.stop_all()
    assert process.start_time_of(pid) is None


async def test_supervisor_passes_an_environment_that_no_representation_shows(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    secret = {"TEST_SECRET": "123456"}
    script = f"echo $TEST_SECRET > {pipe}; exec sleep 600"
    supervisor.start(Program("reader", ("sh", "-c", script), tmp_path / "output", secret))
    assert await _read_number(pipe) == 123456
    assert "123456" not in repr(Program("reader", (), tmp_path, secret))


async def _read_number(fifo: Path) -> int:
    """Return the number that a program writes into the pipe."""
    async with asyncio.timeout(SECONDS):
        return int(await asyncio.to_thread(fifo.read_text))
