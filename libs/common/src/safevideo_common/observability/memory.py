"""How much memory this process holds, and who minds it: a report when it is asked for, the end when it is too much."""

import asyncio
import os
from pathlib import Path
from typing import Final

from safevideo_common.errors import SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.memory_report import write_report

LOOK_SECONDS: Final = 2.0
"""How often the limit is looked at. Reading it costs some 20 µs."""

_STATM: Final = Path("/proc/self/statm")


class MemoryOverLimit(SafeVideoError):
    """The process holds more than it may. It has ended in order, so that whoever watches it starts a new one."""


def resident_bytes() -> int | None:
    """Physical memory in use, or None where the operating system does not say (anything but Linux)."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class MemoryMonitor:
    """For one process. `run` must run beside it."""

    def __init__(self, service: str, folder: Path, limit_bytes: int, log: FilteringBoundLogger) -> None:
        """Reports go to `folder`."""
        self._service = service
        self._folder = folder
        self._limit = limit_bytes
        self._log = log
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have a report written soon: what SIGUSR2 does. Several that come at once are one."""
        self._asked.set()

    async def run(self) -> None:
        """Write what is asked for. Raises `MemoryOverLimit`, with a report on disk, when there is too much."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                pass
            else:
                self._asked.clear()
                await self._report()
            held = resident_bytes() or 0
            if held > self._limit:
                await self._report()
                limit, now = self._limit >> 20, held >> 20
                self._log.error("Memory over the limit", code="MEMORY_OVER_LIMIT", mebibytes=now, limit=limit)
                raise MemoryOverLimit(f"memory over the limit: {now} MiB of {limit} MiB")

    async def _report(self) -> None:
        """In a thread: to count some million objects takes a second, in which others shall be served."""
        try:
            path = await asyncio.to_thread(write_report, self._service, self._folder, resident_bytes())
        except OSError as error:
            self._log.error("Memory report not written", code="MEMORY_REPORT_FAILED", error=type(error).__name__)
        else:
            self._log.info("Memory report written", path=str(path))
