"""Memory of this process: a report on request, an orderly stop when it exceeds the limit."""

import asyncio
import os
from pathlib import Path
from typing import Final

from safevideo_common.errors import SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.memory_report import write_report
from safevideo_common.tasks import wait_event

CHECK_INTERVAL: Final = 2.0
"""Seconds between two checks of the limit. A check takes some 20 µs."""

_STATM: Final = Path("/proc/self/statm")


class MemoryOverLimit(SafeVideoError):
    """The process needs more memory than allowed. It stops in order, and its supervisor starts it again."""


def resident_bytes() -> int | None:
    """Return the physical memory in use, or None where the operating system does not report it (except Linux)."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class MemoryMonitor:
    """The memory limit and the memory reports of one process. `run` must run as a task."""

    def __init__(self, service: str, folder: Path, limit_bytes: int, logger: FilteringBoundLogger) -> None:
        """Write reports to `folder`."""
        self._service = service
        self._folder = folder
        self._limit = limit_bytes
        self._logger = logger
        self.report_requested = asyncio.Event()
        """SIGUSR2 sets it. Requests that arrive together give one report."""

    async def run(self) -> None:
        """Write requested reports. Over the limit, write one and raise `MemoryOverLimit`."""
        while True:
            if await wait_event(self.report_requested, CHECK_INTERVAL):
                self.report_requested.clear()
                await self._report()
            used = resident_bytes() or 0
            if used > self._limit:
                await self._report()
                limit, now = self._limit >> 20, used >> 20
                self._logger.error("Memory over the limit", code="MEMORY_OVER_LIMIT", mebibytes=now, limit=limit)
                raise MemoryOverLimit(f"memory over the limit: {now} MiB of {limit} MiB")

    async def _report(self) -> None:
        # In a thread: counting some million objects takes a second, in which the service must answer.
        try:
            path = await asyncio.to_thread(write_report, self._service, self._folder, resident_bytes())
        except OSError as error:
            self._logger.error("Memory report not written", code="MEMORY_REPORT_FAILED", error=type(error).__name__)
        else:
            self._logger.info("Memory report written", path=str(path))
