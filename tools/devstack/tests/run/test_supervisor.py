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


class Heard:
    """What a supervisor has said, to be waited for."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> str:
        async with asyncio.timeout(SECONDS):
            return await self.lines.get()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def supervisor(tmp_path: Path, heard: Heard) -> AsyncIterator[Supervisor]:
    async with open_supervisor(
        PidRegistry(tmp_path / "pids", tmp_path / "births"), heard.lines.put_nowait
    ) as supervisor:
        yield supervisor


async def test_a_program_that_dies_is_started_again(tmp_path: Path, supervisor: Supervisor, heard: Heard) -> None:
    marks = tmp_path / "marks"
    os.mkfifo(marks)
    supervisor.keep(Program("sleeper", ("sh", "-c", f"echo $$ > {marks}; exec sleep 600"), tmp_path / "output"))
    first = await _told(marks)
    os.kill(first, signal.SIGKILL)
    assert "sleeper has ended; it is started again" in await heard.next()
    second = await _told(marks)
    assert second != first
    assert (tmp_path / "pids").read_text() == f"sleeper={second}\n"


async def test_what_is_stopped_stays_stopped(tmp_path: Path, supervisor: Supervisor) -> None:
    sleeper, other = (Program(name, ("sleep", "600"), tmp_path / name) for name in ("sleeper", "other"))
    supervisor.keep(sleeper)
    supervisor.keep(other)
    await supervisor.stop(["sleeper"])
    assert (supervisor.runs("sleeper"), supervisor.runs("other")) == (False, True)
    assert (tmp_path / "pids").read_text().startswith("other=")


async def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, supervisor: Supervisor) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    deaf = f"trap '' TERM; echo $$ > {ready}; exec sleep 600"
    supervisor.keep(Program("deaf", ("sh", "-c", deaf), tmp_path / "output"))
    pid = await _told(ready)
    async with asyncio.timeout(SECONDS):
        await supervisor.stop_all()
    assert process.birth_of(pid) is None


async def test_an_environment_reaches_the_program_and_shows_in_no_command_line(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    secret = {"TEST_SECRET": "123456"}
    tells = f"echo $TEST_SECRET > {told}; exec sleep 600"
    supervisor.keep(Program("reader", ("sh", "-c", tells), tmp_path / "output", secret))
    assert await _told(told) == 123456
    assert "123456" not in repr(Program("reader", (), tmp_path, secret))


async def _told(fifo: Path) -> int:
    """The number that somebody writes into the pipe."""
    async with asyncio.timeout(SECONDS):
        return int(await asyncio.to_thread(fifo.read_text))
