"""For tests: a `make run` as a process of its own, on free ports."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from safevideo_devstack.backends.ports import reserve
from safevideo_devstack.run.app import SERVING
from safevideo_devstack.run.config import is_free, moved_ports

OFFSETS: Final = range(18_000, 26_000)
"""Moves every port below the range from which the kernel takes a client's own."""

TABLE_SECONDS: Final = 300.0
END_SECONDS: Final = 120.0

LOOK_SECONDS: Final = 0.1
MOST_OUTPUT: Final = 1 << 20


@dataclass(slots=True)
class RunningRun:
    """One run and what it has said so far."""

    folder: Path
    process: asyncio.subprocess.Process
    said: str = ""

    async def until(self, words: str, *, seconds: float = TABLE_SECONDS) -> None:
        """Read its output up to these words. Raises `TimeoutError`, or `EOFError` when it ends without them."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            while words not in self.said:
                line = await self.process.stdout.readline()
                if not line:
                    raise EOFError(f"it has ended without saying {words!r}; it said:\n{self.said}")
                self.said += line.decode()

    async def interrupt(self) -> int:
        """Ctrl-C; its exit code. Raises `TimeoutError` when it has not ended after `END_SECONDS`."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(END_SECONDS):
            rest, _ = await self.process.communicate()
        self.said += rest.decode()
        return self.process.returncode or 0

    async def kill(self) -> None:
        """`kill -9`: it can say and tidy nothing any more."""
        self.process.kill()
        await self.process.communicate()

    def pids(self) -> dict[str, int]:
        """As `.run/pids` has them now."""
        pairs = (line.partition("=") for line in (self.folder / "pids").read_text().splitlines())
        return {name: int(pid) for name, _, pid in pairs}

    def environment(self) -> dict[str, str]:
        """What a shell has after it sourced `.run/env`."""
        return sourced(self.folder / "env")

    async def until_healthy(self, names: Collection[str], *, seconds: float = TABLE_SECONDS) -> None:
        """Return when these processes and no others are there, and the gateway finds the whole healthy."""
        url = self.environment()["SAFEVIDEO_GATEWAY_URL"]
        async with asyncio.timeout(seconds), ClientSession(url, timeout=ClientTimeout(total=5)) as gateway:
            while self.pids().keys() != set(names) or await _health(gateway) != "healthy":  # noqa: ASYNC110 - others act
                await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def running_run(folder: Path, offset: int, stack: str = "embedded") -> AsyncIterator[RunningRun]:
    """Started, its table not yet shown. What still runs at the end is killed."""
    run = RunningRun(folder, await _started(folder, offset, stack))
    try:
        yield run
    finally:
        if run.process.returncode is None:
            await run.kill()


@asynccontextmanager
async def serving_run(folder: Path, offset: int, stack: str = "embedded") -> AsyncIterator[RunningRun]:
    """Its table is shown and it serves."""
    async with running_run(folder, offset, stack) as run:
        await run.until(SERVING)
        yield run


def free_offset() -> int:
    """An offset at which all ports are free, and nobody else gets them."""
    return next(offset for offset in random.sample(OFFSETS, len(OFFSETS)) if _are_free(moved_ports(offset).values()))


def _are_free(ports: Collection[int]) -> bool:
    return all(map(is_free, ports)) and reserve(ports)


def sourced(env: Path) -> dict[str, str]:
    """The variables of a clean shell that has sourced `env`."""
    script = 'set -e; . "$1"; exec env -0'
    told = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(env)], env={}, capture_output=True, check=True, timeout=60
    ).stdout
    pairs = (pair.decode().partition("=") for pair in told.split(b"\0") if pair)
    return {name: value for name, _, value in pairs}


async def _health(gateway: ClientSession) -> object:
    try:
        async with gateway.get("/api/integration/health") as response:
            return (await response.json())["status"]
    except (ClientError, TimeoutError):
        return None


async def _started(folder: Path, offset: int, stack: str) -> asyncio.subprocess.Process:
    choices = {"RUN_DIR": str(folder), "PORT_OFFSET": str(offset), "STACK": stack}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "safevideo_devstack.run",
        env={**os.environ, **choices},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=MOST_OUTPUT,
    )
