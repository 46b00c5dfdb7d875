"""The transactions of a replay: what is applied and the cursor behind it are committed together, or not at all."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import job_cursors
from safevideo_common.jobs.handler import JobRun, JobStopped
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.deciding import Parsed
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.effects import Done, Effect
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.stages import Stopwatch
from safevideo_common.messaging.port import PartitionsLost
from safevideo_common.messaging.replay.cursor import KNOWN, Cursor


@dataclass(slots=True)
class Checkpoints(Generic[Event, States]):
    """Those of one batch of one partition: one, or several where the batch has to be taken apart."""

    job: JobRun
    effect: Effect[Event, States]
    cursor: Cursor
    """As it is committed."""
    partition: int
    processed: int
    """Records that are done with when all of the batch is."""
    passed: Sequence[Delivery]
    """Events of the batch that the inbox has: they are counted with what stands behind them."""
    stopped: JobStopped | None = None
    """Why the run must end now that something is committed."""
    met_known: bool = False
    """Whether the inbox had some of what was to be applied."""
    _next: Cursor = field(init=False)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A step of the job. Raises `PartitionsLost` from what has ended the run, which is no fault of the batch."""
        has_begun = False
        try:
            async with self.job.step(processed=self.processed, total=self.cursor.total) as tx:
                has_begun = True
                yield tx
        except JobStopped as stopped:
            if not has_begun:
                raise PartitionsLost from stopped
            self.stopped = stopped
        self.cursor = self._next

    async def apply(
        self, consumer: Consumer[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
    ) -> Done[States]:
        """The batch's effect, and the cursor behind it."""
        done = await self.effect(consumer, tx, parsed, watch)
        self._next = self._behind(parsed, done)
        self.met_known = self.met_known or len(done.decided) < len(parsed)
        await job_cursors.save(tx, self.job.job_id, self._next.document())
        return done

    def _behind(self, parsed: Sequence[Parsed[Event]], done: Done[States]) -> Cursor:
        cursor, last = self.cursor.copy(), parsed[-1].delivery.offset
        passed = [each for each in self.passed if cursor.next[str(self.partition)] <= each.offset < last]
        outcomes = Counter(str(each.outcome.status) for each in (*done.decided, *done.again))
        outcomes[KNOWN] += len(passed) + len(parsed) - outcomes.total()
        deliveries = [*passed, *(each.delivery for each in parsed)]
        cursor.count((each.envelope.type for each in deliveries), outcomes)
        cursor.reached(self.partition, last + 1)
        return cursor
