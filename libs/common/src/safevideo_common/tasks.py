"""Cancellation that is not lost.

A client may forget that its task was cancelled: before Python 3.12 `asyncio.wait_for`, which redis-py and aiomysql use,
drops a cancellation that comes just as it ends; and where a rollback fails on a connection that is gone, that failure
takes its place. Such a task would go on for good, or wait for the database, and its process would not end.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

AGAIN_SECONDS: Final = 5.0
"""More than any task of ours takes to end in order once it is cancelled."""


@contextmanager
def preserve_cancellation() -> Iterator[None]:
    """Raise `CancelledError` at the end when the task was cancelled inside and what ran there did not say so."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except Exception as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


async def cancel_and_wait(task: "asyncio.Task[object]", *, again_seconds: float = AGAIN_SECONDS) -> None:
    """Cancel a task and return once it has ended, in whichever way. Where it forgets that, it is cancelled again."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again_seconds)
    if not task.cancelled():
        task.exception()  # heard of: who ends a task does not care what it failed with


async def wait_event(event: asyncio.Event, timeout: float | None) -> bool:
    """Wait until the event is set, for at most `timeout` seconds. Return False if the time is over."""
    try:
        async with asyncio.timeout(timeout):
            return await event.wait()
    except TimeoutError:
        return False


@contextmanager
def unwrap_exception_group() -> Iterator[None]:
    """Around an `asyncio.TaskGroup`: raise the error of the task that failed first, in place of a group of errors."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
