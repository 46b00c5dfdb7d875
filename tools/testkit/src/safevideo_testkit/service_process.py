"""A service as a process of its own, for tests that kill it."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from safevideo_devstack.backends import process
from safevideo_testkit.eventually import DEADLINE_SECONDS


async def read_until(started: asyncio.subprocess.Process, words: bytes) -> None:
    """Read the process's output up to the line with these words. Raises `AssertionError` if it ends before."""
    assert started.stdout is not None
    while words not in (line := await started.stdout.readline()):
        assert line, f"the process ended without {words.decode()}"


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

    @property
    def ended(self) -> int | None:
        """The exit status of one that has ended by itself."""
        return self._process.returncode if self._process else None

    def output(self) -> str:
        """All that it has said so far."""
        return self._output.read_text(errors="replace")

    async def freeze(self) -> None:
        """SIGSTOP, and return when none of its threads runs any more."""
        assert self._process is not None
        pid = self._process.pid
        frozen = process.Process(self._module, pid, process.start_time_of(pid) or "")
        await asyncio.to_thread(process.freeze, frozen)

    def thaw(self) -> None:
        """Let it go on, if it is still there."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """`kill -9`, and gone. Raises `AssertionError` when it had ended by itself."""
        assert self._process is not None
        assert self._process.returncode is None, self.output()[-2000:]
        self._process.kill()
        await self._process.wait()
        self._process = None

    async def stop(self) -> int:
        """SIGTERM; the exit status. Raises `TimeoutError` when it does not end in time; then it is killed."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.terminate()
            self.thaw()  # a frozen process does not see SIGTERM
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise
