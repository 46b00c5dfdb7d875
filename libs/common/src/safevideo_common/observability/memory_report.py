"""A report on the memory of this process, as a text file: types and numbers, never the value of an object."""

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
