"""The bound on calls in flight of one process (a bulkhead), with a bounded queue for each kind of caller.

A call of the API gets a place before any job. Jobs never have all places, so the API never waits for a job to end.
"""

import asyncio
from collections import Counter, deque
from typing import Final

from safevideo_common.sharegram.errors import CallQueueFull, FailureReason
from safevideo_common.sharegram.layers import CallLayer
from safevideo_common.sharegram.metrics import SharegramMetrics
from safevideo_common.sharegram.operations import CallerKind, OutgoingCall

RESERVED_SHARE: Final = 4
"""One place in four is for callers of the API alone."""
QUEUE_PER_PLACE: Final = 8


class ConcurrencyLimit:
    """Sends a call once it has a place. A wait ends at the caller's deadline."""

    def __init__(self, below: CallLayer, places: int, metrics: SharegramMetrics) -> None:
        """Allow `places` calls at once, at least 1."""
        self._below = below
        self._limits = {CallerKind.API: places, CallerKind.JOB: max(1, places - places // RESERVED_SHARE)}
        self._places = places
        self._queue_limit = places * QUEUE_PER_PLACE
        self._running = Counter[CallerKind]()
        self._queues: dict[CallerKind, deque[asyncio.Future[None]]] = {kind: deque() for kind in CallerKind}
        metrics.read_load(self._running.total, lambda: sum(map(len, self._queues.values())))

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. Raises `CallQueueFull` if too many wait, or if no place was free in time."""
        kind = call.caller.kind
        if self._has_place(kind):
            self._running[kind] += 1
        else:
            await self._wait(kind, call.caller.deadline)
        try:
            return await self._below.send(call)
        finally:
            self._leave(kind)

    def _has_place(self, kind: CallerKind) -> bool:
        return self._running.total() < self._places and self._running[kind] < self._limits[kind]

    async def _wait(self, kind: CallerKind, deadline: float) -> None:
        """Wait until `_hand_over` has counted this call as running."""
        queue = self._queues[kind]
        if len(queue) >= self._queue_limit:
            raise CallQueueFull(
                FailureReason.QUEUE_FULL, f"{self._queue_limit} calls to Sharegram wait for a place", retry_after=1
            )
        ticket = asyncio.get_running_loop().create_future()
        queue.append(ticket)
        try:
            async with asyncio.timeout_at(deadline):
                await ticket
        except BaseException as error:
            if ticket.done() and not ticket.cancelled():
                self._leave(kind)  # handed over just now
            elif ticket in queue:
                queue.remove(ticket)
            if isinstance(error, TimeoutError):
                message = "no place among the calls to Sharegram was free in time"
                raise CallQueueFull(FailureReason.QUEUE_FULL, message, retry_after=1) from None
            raise

    def _leave(self, kind: CallerKind) -> None:
        self._running[kind] -= 1
        for waiting in (CallerKind.API, CallerKind.JOB):
            self._hand_over(waiting)

    def _hand_over(self, kind: CallerKind) -> None:
        queue = self._queues[kind]
        while queue and self._has_place(kind):
            ticket = queue.popleft()
            if not ticket.done():  # a cancelled waiter has not left the queue yet
                self._running[kind] += 1
                ticket.set_result(None)
