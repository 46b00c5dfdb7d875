"""The transactions of a replay: what is applied and the cursor behind it are committed together, or not at all."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.jobs.handler import JobStopped
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.deciding import Parsed
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.effects import Done, Effect
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.stages import Stopwatch
from safevideo_common.messaging.port import PartitionsLost
from safevideo_common.messaging.replay.cursor import KNOWN, Cursor
from safevideo_common.messaging.replay.run import Run


class Advance(NamedTuple):
    """What a transaction adds to the cursor."""

    types: Mapping[str, int]
    outcomes: Mapping[str, int]
    next_offset: int


@dataclass(slots=True)
class Checkpoints(Generic[Event, States]):
    """Those of one batch of one partition: one, or several where the batch has to be taken apart."""

    run: Run[Event, States]
    effect: Effect[Event, States]
    partition: int
    passed: Sequence[Delivery]
    """Events of the batch that the inbox has: they are counted with what stands behind them."""
    met_known: bool = False
    """Whether the inbox had some of what was to be applied."""
    _advance: Advance | None = None
    """Set while this has the turn to seal: from the lock on the job's row to the commit."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction. The cursor goes on once it is committed."""
        try:
            async with self.run.consumer.database.transaction() as tx:
                yield tx
            if self._advance is not None:
                self._add(self.run.cursor, self._advance)
                self.run.came_further()
        finally:
            if self._advance is not None:
                self._advance = None
                self.run.sealing.release()

    async def apply(
        self, consumer: Consumer[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
    ) -> Done[States]:
        """The batch's effect, and the cursor behind it.

        Raises `PartitionsLost` from what has ended the run, which is no fault of the batch.
        """
        done = await self.effect(consumer, tx, parsed, watch)
        self.met_known = self.met_known or len(done.decided) < len(parsed)
        await self.run.sealing.acquire()
        self._advance = self._by(parsed, done)
        cursor = self.run.cursor.copy()
        self._add(cursor, self._advance)
        try:
            await self.run.job.seal(tx, cursor.document(), processed=cursor.processed, total=cursor.total)
        except JobStopped as stopped:
            raise PartitionsLost from stopped
        return done

    def _by(self, parsed: Sequence[Parsed[Event]], done: Done[States]) -> Advance:
        last, reached = parsed[-1].delivery.offset, self.run.cursor.next[str(self.partition)]
        passed = [each for each in self.passed if reached <= each.offset < last]
        outcomes = Counter(str(each.outcome.status) for each in (*done.decided, *done.again))
        outcomes[KNOWN] += len(passed) + len(parsed) - outcomes.total()
        deliveries = [*passed, *(each.delivery for each in parsed)]
        return Advance(Counter(each.envelope.type for each in deliveries), outcomes, last + 1)

    def _add(self, cursor: Cursor, advance: Advance) -> None:
        cursor.count(advance.types, advance.outcomes)
        cursor.reached(self.partition, advance.next_offset)
