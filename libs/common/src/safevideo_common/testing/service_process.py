"""A service as a process of its own, for tests that kill it."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

STOPS_SECONDS = 15.0


class ServiceProcess:
    """`python -m <module>`. Its output is appended to `output`."""

    def __init__(self, module: str, environment: Mapping[str, str], output: Path) -> None:
        """`environment` is added to ours. Nothing is started yet."""
        self._module = module
        self._environment = {**os.environ, **environment}
        self._output = output
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it may not be ready for a while yet."""
        with self._output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module, env=self._environment, stdout=output, stderr=output
            )

    async def kill(self) -> None:
        """`kill -9`, and gone. Raises `AssertionError` when it had ended by itself."""
        assert self._process is not None
        assert self._process.returncode is None, self._output.read_text()[-2000:]
        self._process.kill()
        await self._process.wait()
        self._process = None

    @property
    def pid(self) -> int:
        """Its number, while it runs."""
        assert self._process is not None
        return self._process.pid

    def children(self) -> list[int]:
        """The processes that it has started (on Linux)."""
        return [int(each) for each in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    async def stop(self) -> int:
        """SIGTERM; the exit status. Raises `TimeoutError` when it does not end in time; then it is killed."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOPS_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise
