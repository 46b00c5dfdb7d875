"""The way into the quarantine: a bounded queue, and how much of it one address may use."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from safevideo_common.resilience.token_bucket import TokenBucket
from webhook_ingest.quarantine.capture import Rejected
from webhook_ingest.quarantine.metrics import QuarantineMetrics

BATCH_ROWS: Final = 100
BATCH_BYTES: Final = 4 << 20

SHARE: Final = 4
"""One address may use a quarter of the queue: so many must flood together before an honest one finds it full."""

QUEUE_BYTES: Final = 32 << 20
BYTES_PER_SECOND: Final = QUEUE_BYTES // SHARE / 60
ADDRESSES: Final = 10_000
"""Allowances that are remembered: the rest of a forgotten one is at most a minute's worth."""


class _Buckets(NamedTuple):
    rows: TokenBucket
    size: TokenBucket


class QuarantineQueue:
    """A queue of what waits to be written, in order of reception. What finds no room is dropped and counted."""

    def __init__(
        self, per_minute: int, metrics: QuarantineMetrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`per_minute` is how many of one address get in, as many at once included."""
        self._per_minute = per_minute
        self._metrics = metrics
        self._clock = clock
        self._of: OrderedDict[str, _Buckets] = OrderedDict()
        self._waiting: deque[Rejected] = deque()
        self._bytes = 0
        self._some = asyncio.Event()

    def offer(self, rejected: Rejected) -> None:
        """See `Quarantine`."""
        size = len(rejected.body)
        if len(self._waiting) >= SHARE * self._per_minute or self._bytes + size > QUEUE_BYTES:
            self._metrics.count("queue_full")
        elif not self._is_admitted(rejected.remote, size):
            self._metrics.count("over_address_limit")
        else:
            self._waiting.append(rejected)
            self._bytes += size
            self._some.set()

    async def wait(self, seconds: float) -> None:
        """Until there is something, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._some.wait()
        except TimeoutError:
            return

    def take(self) -> list[Rejected]:
        """The next batch, in order: at most `BATCH_ROWS` and, unless one alone has more, `BATCH_BYTES`."""
        taken: list[Rejected] = []
        size = 0
        while self._waiting and len(taken) < BATCH_ROWS:
            size += len(self._waiting[0].body)
            if taken and size > BATCH_BYTES:
                break
            taken.append(self._waiting.popleft())
        self._bytes -= sum(len(each.body) for each in taken)
        if not self._waiting:
            self._some.clear()
        return taken

    def _is_admitted(self, remote: str, size: int) -> bool:
        now = self._clock()
        rows, bytes_ = self._allowances(remote)
        return rows.take(now) and bytes_.take(now, size)

    def _allowances(self, remote: str) -> _Buckets:
        found = self._of.get(remote)
        if found is None:
            of_rows = TokenBucket(self._per_minute, self._per_minute / 60)
            found = self._of[remote] = _Buckets(of_rows, TokenBucket(QUEUE_BYTES / SHARE, BYTES_PER_SECOND))
            if len(self._of) > ADDRESSES:
                self._of.popitem(last=False)
        self._of.move_to_end(remote)
        return found
