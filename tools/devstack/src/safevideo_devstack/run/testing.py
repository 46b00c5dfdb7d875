"""A `make run` for tests: a process of its own, on free ports."""

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

from safevideo_devstack.backends.ports import is_free, reserve
from safevideo_devstack.run.app import SERVING
from safevideo_devstack.run.config import moved_ports

OFFSETS: Final = range(18_000, 26_000)
"""Moves every port below the range from which the kernel takes a client's own."""

READY_SECONDS: Final = 300.0
END_SECONDS: Final = 120.0

POLL_SECONDS: Final = 0.1
MAX_LINE_BYTES: Final = 1 << 20


@dataclass(slots=True)
class RunningRun:
    """A run and the output that was read so far."""

    folder: Path
    process: asyncio.subprocess.Process
    output: str = ""

    async def until(self, text: str, *, seconds: float = READY_SECONDS) -> None:
        """Read its output up to this text. Raises `TimeoutError`, or `EOFError` when it ends without the text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            while text not in self.output:
                line = await self.process.stdout.readline()
                if not line:
                    raise EOFError(f"it has ended without printing {text!r}; it printed:\n{self.output}")
                self.output += line.decode()

    async def interrupt(self) -> int:
        """Send Ctrl-C and return its exit code. Raises `TimeoutError` when it has not ended after `END_SECONDS`."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(END_SECONDS):
            rest, _ = await self.process.communicate()
        self.output += rest.decode()
        return self.process.returncode or 0

    async def kill(self) -> None:
        """Kill it with `kill -9`: it cleans nothing up."""
        self.process.kill()
        await self.process.communicate()

    def pids(self) -> dict[str, int]:
        """Return the processes of `.run/pids` as they are now."""
        pairs = (line.partition("=") for line in (self.folder / "pids").read_text().splitlines())
        return {name: int(pid) for name, _, pid in pairs}

    def environment(self) -> dict[str, str]:
        """Return the variables of a shell that has sourced `.run/env`."""
        return sourced(self.folder / "env")

    async def until_healthy(self, names: Collection[str], *, seconds: float = READY_SECONDS) -> None:
        """Return when exactly these processes run and the gateway reports the system as healthy."""
        url = self.environment()["SAFEVIDEO_GATEWAY_URL"]
        async with asyncio.timeout(seconds), ClientSession(url, timeout=ClientTimeout(total=5)) as gateway:
            while self.pids().keys() != set(names) or await _health(gateway) != "healthy":  # noqa: ASYNC110 - others act
                await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def running_run(folder: Path, offset: int, stack: str = "embedded") -> AsyncIterator[RunningRun]:
    """Start a run for the block; do not wait for its table. Kill it at the end if it still runs."""
    run = RunningRun(folder, await _start(folder, offset, stack))
    try:
        yield run
    finally:
        if run.process.returncode is None:
            await run.kill()


@asynccontextmanager
async def serving_run(folder: Path, offset: int, stack: str = "embedded") -> AsyncIterator[RunningRun]:
    """Start a run for the block and wait until it serves."""
    async with running_run(folder, offset, stack) as run:
        await run.until(SERVING)
        yield run


def free_offset() -> int:
    """Return an offset at which all ports are free, and reserve them."""
    return next(offset for offset in random.sample(OFFSETS, len(OFFSETS)) if _are_free(moved_ports(offset).values()))


def _are_free(ports: Collection[int]) -> bool:
    return all(map(is_free, ports)) and reserve(ports)


def sourced(env: Path) -> dict[str, str]:
    """Return the variables of a clean shell that has sourced `env`."""
    script = 'set -e; . "$1"; exec env -0'
    variables = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(env)], env={}, capture_output=True, check=True, timeout=60
    ).stdout
    pairs = (pair.decode().partition("=") for pair in variables.split(b"\0") if pair)
    return {name: value for name, _, value in pairs}


async def _health(gateway: ClientSession) -> object:
    try:
        async with gateway.get("/api/integration/health") as response:
            return (await response.json())["status"]
    except (ClientError, TimeoutError):
        return None


async def _start(folder: Path, offset: int, stack: str) -> asyncio.subprocess.Process:
    choices = {"RUN_DIR": str(folder), "PORT_OFFSET": str(offset), "STACK": stack}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "safevideo_devstack.run",
        env={**os.environ, **choices},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=MAX_LINE_BYTES,
    )
