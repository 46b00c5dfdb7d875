"""Whose turn it is to write.

SQLite has one writer at a time, and who finds it busy looks again every so often: of several services in one process
the busiest would win most of these races. So the writers of one process queue here, first come, first served, and only
the winner asks SQLite, which then merely has to keep other processes apart. MySQL locks rows and queues by itself.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy.ext.asyncio import AsyncEngine

_queues: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, asyncio.Lock]]] = WeakKeyDictionary()


def sqlite_write_lock(engine: AsyncEngine) -> AbstractAsyncContextManager[None]:
    """Waits for the turn, and has it as long as the block lasts. Engines on one file and event loop share a queue."""
    if engine.dialect.name != "sqlite":
        return nullcontext()
    of_loop = _queues.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault(Path(engine.url.database or "").absolute(), asyncio.Lock())
