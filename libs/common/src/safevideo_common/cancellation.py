"""Cancellation that is not lost.

A client may forget that its task was cancelled: before Python 3.12 `asyncio.wait_for`, which redis-py and aiomysql use,
drops a cancellation that comes just as it ends; and where a rollback fails on a connection that is gone, that failure
takes its place. Such a task would go on for good, or wait for the database, and its process would not end.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heeding_cancellation() -> Iterator[None]:
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
