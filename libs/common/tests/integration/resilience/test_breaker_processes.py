"""Twenty processes on one real Redis: how many calls reach a dead dependency, who probes, and how fast all are back."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis

from safevideo_testkit.eventually import eventually

PROCESSES = 20
PROBES = 3
MAX_CALLS_EACH = 5
"""Of a process from the first failure until it is told. On a busy machine Redis may answer after several of its calls.
Without a breaker each process makes ten calls a second."""
KEY = "breaker:{sharegram}"
SCRIPT = Path(__file__).parent / "breaker_processes.py"


class Dependency:
    """A server that answers `!` while it is healthy, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.probes = 0
        self.is_healthy = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        with suppress(OSError):
            self.probes += await reader.read(1) == b"p"
            await self.answers.wait()
            writer.write(b"!" if self.is_healthy else b"x")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def processes(redis_url: str, port: int) -> AsyncIterator[list[int]]:
    arguments = (sys.executable, str(SCRIPT), redis_url, str(port), str(PROCESSES))
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
    assert parent.stdout
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    try:
        yield pids
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert parent.stdin
        parent.stdin.close()
        await parent.wait()


async def field(redis: Redis, kind: str) -> list[str]:
    names = [name.decode() for name in await redis.hkeys(KEY) if isinstance(name, bytes)]
    return [name for name in names if name.startswith(kind)]


async def test_twenty_processes_open_probe_and_close_together(redis: Redis, redis_url: str) -> None:
    dependency = Dependency()
    dependency.is_healthy = True
    server = await asyncio.start_server(dependency.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, processes(redis_url, port) as pids:

        async def all_running() -> bool:
            return len(await field(redis, "p:")) == PROCESSES and dependency.calls > 5 * PROCESSES

        await eventually(all_running)
        dependency.is_healthy = False
        before = dependency.calls

        async def is_open() -> bool:
            return await redis.hexists(KEY, "open_until")

        await eventually(is_open, poll_seconds=0.002)
        # Five failures open it.
        assert dependency.calls - before <= 5 + MAX_CALLS_EACH * PROCESSES

        dependency.answers.clear()  # the probes hang

        async def has_probes() -> bool:
            leases = len(await field(redis, "l:"))
            assert leases <= PROBES
            return leases == PROBES and dependency.probes >= PROBES

        await eventually(has_probes)
        for pid in pids[:-1]:
            os.kill(pid, signal.SIGKILL)  # with them most likely the probers: only their leases are left
        dependency.is_healthy = True
        dependency.answers.set()

        async def is_closed() -> bool:
            return not await is_open()

        await eventually(is_closed)
