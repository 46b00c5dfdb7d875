"""Several processes on one port, seen from outside."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from webhook_ingest.workers.heartbeats import HUNG_SECONDS

PROGRAM = Path(__file__).parent / "door_program.py"
SECONDS = 30.0


@dataclass(frozen=True)
class Door:
    """The program of `door_program.py`, running."""

    process: asyncio.subprocess.Process
    port: int
    logs: Path

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[aiohttp.ClientSession]:
        """One client with a connection of its own, so that the kernel decides anew who gets it."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", timeout=timeout) as session:
            yield session

    async def who(self) -> dict[str, int]:
        """Number and pid of whoever answers."""
        async with self.connected() as client, client.get("/who") as answer:
            assert answer.status == 200
            said: dict[str, int] = await answer.json()
            return said

    async def pids(self, count: int) -> dict[int, int]:
        """Pid by number, once all of them have answered."""
        found: dict[int, int] = {}
        async with asyncio.timeout(SECONDS):
            while len(found) < count:
                said = await self.who()
                found[said["number"]] = said["pid"]
        return found


Start = Callable[..., Awaitable[Door]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    logs = tmp_path / "logs"
    return {
        "DATABASE_URL": "sqlite+aiosqlite://",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "SAFEVIDEO_ENV": "development",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "LOG_DIR": str(logs),
        "SHUTDOWN_SECONDS": "5",
        "DRAIN_SECONDS": "0.5",
    }


@pytest.fixture
async def start(environment: dict[str, str]) -> AsyncIterator[Start]:
    """Start the program with so many workers; it is told to stop when the test ends."""
    async with AsyncExitStack() as stack:

        async def started(count: int, hung_seconds: float = HUNG_SECONDS) -> Door:
            process = await asyncio.create_subprocess_exec(
                sys.executable, PROGRAM, str(count), str(hung_seconds),
                env=os.environ | environment, stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            stack.push_async_callback(_ended, process)
            logs = Path(environment["LOG_DIR"])
            return Door(process, await _port(logs / "app.log"), logs)

        yield started


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(SECONDS):
        await process.wait()


async def _port(app_log: Path) -> int:
    async with asyncio.timeout(SECONDS):
        while not (lines := [line for line in written(app_log) if "Service started" in line]):
            await asyncio.sleep(0.02)
    return int(lines[0].rpartition("port=")[2])


def written(app_log: Path) -> list[str]:
    return app_log.read_text().splitlines() if app_log.exists() else []


@asynccontextmanager
async def clients_of(door: Door, count: int) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """So many clients, each with one connection."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(door.connected()) for _ in range(count)]


def is_there(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(SECONDS):
        while is_there(pid):
            await asyncio.sleep(0.02)


async def test_one_worker_is_the_process_itself(start: Start) -> None:
    door = await start(1)
    assert (await door.pids(1))[0] == door.process.pid


async def test_all_answer_on_one_port(start: Start) -> None:
    door = await start(3)
    pids = await door.pids(3)
    assert set(pids) == {1, 2, 3}
    assert len(set(pids.values()) | {door.process.pid}) == 4


async def test_who_is_killed_is_started_again_while_the_others_answer(start: Start) -> None:
    door = await start(2)
    before = await door.pids(2)
    os.kill(before[1], signal.SIGKILL)
    await gone(before[1])
    after = await door.pids(2)
    assert after[1] != before[1]
    assert after[2] == before[2]
    assert "WORKER_DIED" in (door.logs / "error.log").read_text()


async def test_one_that_hangs_is_killed_and_started_again_while_the_others_go_on(start: Start) -> None:
    door = await start(2, hung_seconds=5.0)
    before = await door.pids(2)
    os.kill(before[1], signal.SIGSTOP)
    await gone(before[1])
    after = await door.pids(2)
    assert after[1] != before[1]
    assert after[2] == before[2]
    text = (door.logs / "error.log").read_text()
    assert text.index("WORKER_HUNG") < text.index("WORKER_DIED")
    assert text.count("WORKER_HUNG") == 1


async def test_a_stop_loses_nobody_who_has_asked(start: Start) -> None:
    """The test is the balancer: it sends until one answer says that the process goes, and hears out the rest."""
    door = await start(2)
    pids = await door.pids(2)
    leaving = asyncio.Event()
    answered = 0

    async def send(client: aiohttp.ClientSession) -> None:
        nonlocal answered
        while not leaving.is_set():
            async with client.post("/slow", data=b"hello") as answer:
                assert (answer.status, await answer.read()) == (200, b"hello")
                answered += 1
                if answer.headers.get("Connection") == "close":
                    leaving.set()

    async with asyncio.timeout(SECONDS), clients_of(door, 40) as clients, asyncio.TaskGroup() as senders:
        for client in clients:
            senders.create_task(send(client))
        while answered < 40:
            await asyncio.sleep(0.01)
        door.process.terminate()
    assert await door.process.wait() == 0
    assert not any(map(is_there, pids.values()))


async def test_a_hangup_reopens_the_logs_of_all(start: Start) -> None:
    door = await start(2)
    await door.pids(2)
    app_log = door.logs / "app.log"
    app_log.rename(door.logs / "app.log.1")
    door.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(SECONDS):
        while not app_log.exists():
            await door.pids(2)
    door.process.terminate()
    assert await door.process.wait() == 0
    assert app_log.read_text().count("Service stopping") == 2


async def test_the_parent_has_each_worker_report_on_its_memory(start: Start) -> None:
    door = await start(2)
    pids = await door.pids(2)
    door.process.send_signal(signal.SIGUSR2)
    async with asyncio.timeout(SECONDS):
        while len(reported := {each.stem.rpartition("-")[2] for each in door.logs.glob("memory-*.txt")}) < 2:
            await asyncio.sleep(0.02)
    assert reported == {str(pid) for pid in pids.values()}
    assert await door.pids(2) == pids


async def test_workers_do_not_outlive_a_parent_that_is_killed(start: Start) -> None:
    door = await start(2)
    pids = await door.pids(2)
    door.process.kill()
    for pid in pids.values():
        await gone(pid)


async def test_a_second_parent_on_the_same_port_is_refused(start: Start, environment: dict[str, str]) -> None:
    door = await start(2)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        PROGRAM,
        "2",
        "30",
        env=os.environ | environment | {"PORT": str(door.port)},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"Address already in use" in said
    assert b"Traceback" not in said


async def test_whoever_is_scraped_answers_for_all(start: Start) -> None:
    door = await start(2)
    await door.pids(2)
    async with door.connected() as client, client.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(figures['asked_total{worker="1",who="x"}']) >= 1
    assert float(figures['asked_total{worker="2",who="x"}']) >= 1
    assert float(figures["safevideo_workers_answering"]) == 2
    assert len([line for line in lines if line == "# TYPE asked_total counter"]) == 1
