"""Memory of this process: a report on request, an orderly stop when it exceeds the limit."""

import asyncio
import gc
import os
import resource
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from safevideo_common.errors import SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.tasks import wait_event

# A report on the memory of this process, as a text file: types and numbers, never the value of an object.


MAX_TYPES: Final = 40
MAX_LINES: Final = 40
MAX_REPORTS: Final = 20
"""Per service and folder: a process that repeatedly stops over its limit must not fill the disk."""


def write_report(service: str, folder: Path, resident: int | None) -> Path:
    """Write a report to a new file in `folder` that only its owner can read. Raises `OSError`."""
    now = datetime.now(UTC)
    path = folder / f"memory-{service}-{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"Memory report of {service}, pid {os.getpid()}, {now:%Y-%m-%dT%H:%M:%SZ}\n")
        file.writelines(f"{line}\n" for line in _lines(resident))
    _delete_oldest(service, folder)
    return path


def _lines(resident: int | None) -> Iterator[str]:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    yield f"resident: {_mebibytes(resident)}; the highest so far: {_mebibytes(highest)}"
    yield f"collector: counts {gc.get_count()}, thresholds {gc.get_threshold()}"
    for generation, stats in enumerate(gc.get_stats()):
        yield f"  generation {generation}: " + ", ".join(f"{name} {number}" for name, number in stats.items())
    types = Counter(map(type, gc.get_objects()))
    yield f"objects that the collector knows: {types.total()}, and {gc.get_freeze_count()} from before the start"
    for kind, number in types.most_common(MAX_TYPES):
        yield f"  {number:10} {kind.__module__}.{kind.__qualname__}"
    yield from _traced()


def _traced() -> Iterator[str]:
    if not tracemalloc.is_tracing():
        yield "allocations: not traced; start it with PYTHONTRACEMALLOC=1 to see where they come from"
        return
    now, highest = tracemalloc.get_traced_memory()
    yield f"allocations traced: {_mebibytes(now)}; the highest so far: {_mebibytes(highest)}"
    for line in tracemalloc.take_snapshot().statistics("lineno")[:MAX_LINES]:
        yield f"  {line.size:12} bytes in {line.count:8}: {line.traceback}"


def _mebibytes(size: int | None) -> str:
    return "unknown here" if size is None else f"{size / (1 << 20):.1f} MiB"


def _delete_oldest(service: str, folder: Path) -> None:
    for path in sorted(folder.glob(f"memory-{service}-2*.txt"))[:-MAX_REPORTS]:  # names begin with their time
        with suppress(OSError):  # another process may have deleted it
            path.unlink()


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
