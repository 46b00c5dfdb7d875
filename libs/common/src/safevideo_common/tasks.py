"""Owning tasks: start, cancel and wait, without losing a cancellation or hiding an error.

A library may forget that its task was cancelled. Before Python 3.12 `asyncio.wait_for`, which redis-py and aiomysql
use, drops a cancellation that arrives just as it returns. Where a rollback fails on a lost connection, that error
replaces the cancellation. Such a task would run or wait forever, and its process would not stop.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

RECANCEL_SECONDS: Final = 5.0
"""More than any of our tasks needs to stop once it is cancelled."""


_CLOSED_TRANSPORT: Final = ("the handler is closed", "Transport does not expose socket instance")
"""The ends of what uvloop, and aiomysql on it, say of a connection that was reset while nothing was under way."""


@contextmanager
def reset_as_os_error() -> Iterator[None]:
    """Raise `ConnectionResetError` where uvloop refuses to write to a connection that was reset.

    uvloop raises `RuntimeError`, which clients of databases and brokers do not expect. Other errors stay as they are.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).endswith(_CLOSED_TRANSPORT):
            raise
        raise ConnectionResetError("the connection was reset") from error


@contextmanager
def preserve_cancellation() -> Iterator[None]:
    """Raise `CancelledError` at the end if the task was cancelled inside and the block did not raise it."""
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


async def cancel_and_wait(task: "asyncio.Task[object]", *, again_seconds: float = RECANCEL_SECONDS) -> None:
    """Cancel a task and return once it has ended, with or without an error. Cancel again if it forgets that."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again_seconds)
    if not task.cancelled():
        task.exception()  # retrieved, or asyncio would log it


async def wait_event(event: asyncio.Event, timeout: float | None) -> bool:
    """Wait until the event is set, for at most `timeout` seconds. Return False if the time is over."""
    try:
        async with asyncio.timeout(timeout):
            return await event.wait()
    except TimeoutError:
        return False


@asynccontextmanager
async def running_task(work: Coroutine[object, object, None], name: str) -> AsyncIterator["asyncio.Task[None]"]:
    """Run `work` as a task beside the block, and cancel it at the end of the block."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        await cancel_and_wait(task)


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Run the tasks of the block, and wait for all. The first that fails cancels the others, and its error is raised.

    `asyncio.TaskGroup` raises a group of errors, which a caller that expects one of them does not catch.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
