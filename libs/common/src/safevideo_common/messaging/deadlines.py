"""One deadline for very many futures, with one timer for all of them."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS

_Future = asyncio.Future[Any]  # what the future holds is its owner's business


class Deadlines:
    """Fails every watched future that is not done after `seconds`, with `LogUnavailable`.

    `asyncio.timeout` costs a timer, a heap entry and a handle for each message; since all wait equally long, a queue in
    order of arrival and a timer for its head do the same.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._watched: deque[tuple[float, _Future]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, future: _Future) -> None:
        """Start its time. What is done at the head is let go here, so the queue stays as long as what is open."""
        self.watch_all((future,))

    def watch_all(self, futures: Iterable[_Future]) -> None:
        """Start their common time. Those that are not done by then fail in one step, between which nothing else runs.

        So of messages that follow each other none is sent when an earlier one has just been given up.
        """
        watched = self._watched
        while watched and watched[0][1].done():
            watched.popleft()
        due = self._loop.time() + self._seconds
        watched.extend((due, future) for future in futures)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._expire)

    def close(self) -> None:
        """Fail what is still open."""
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._watched:
            _fail(future, "The publisher was closed before the event log acknowledged the message.")
        self._watched.clear()

    def _expire(self) -> None:
        watched = self._watched
        now = self._loop.time()
        while watched and (watched[0][1].done() or watched[0][0] <= now):
            _fail(watched.popleft()[1], "The event log gave no acknowledgement in time.")
        self._timer = self._loop.call_at(watched[0][0], self._expire) if watched else None


async def all_done(futures: Sequence[_Future]) -> None:
    """Return when all are done. Raises the first failure that is noticed, or `CancelledError` when this is cancelled.

    Those that are not done then are cancelled in one step, likewise.
    """
    try:
        for future in futures:
            if not future.done():
                await asyncio.wait((future,))  # which lets it be when this task is cancelled: all must end at once
            future.result()
    finally:
        for future in futures:
            if not future.cancel() and not future.cancelled():
                future.exception()  # has been told, or is one like it


def _fail(future: _Future, reason: str) -> None:
    if not future.done():
        future.set_exception(LogUnavailable(reason, retry_after=RETRY_AFTER_SECONDS))
