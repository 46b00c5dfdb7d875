"""A dry run: what is read is foreseen, partition by partition, and nothing is written but the job's own row."""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Generic

from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.port import Reader, TopicPartition
from safevideo_common.messaging.replay.cursor import Cursor
from safevideo_common.messaging.replay.forecast import Forecast
from safevideo_common.messaging.replay.port import Differences
from safevideo_common.messaging.replay.reading import reading_ahead
from safevideo_common.messaging.replay.run import Run

MOST_SHOWN: Final = 100
"""Performers with their changes in the result."""
SHOWN_CHARACTERS: Final = 200
"""Of a text there."""


@dataclass(frozen=True, slots=True)
class Foreseeing(Generic[Event, States]):
    """See `PartitionWork`. A forecast lives in memory: of a partition that is cut off it begins anew."""

    run: Run[Event, States]

    async def do(self, partition: TopicPartition, reader: Reader) -> None:
        """See `PartitionWork`."""
        run, number = self.run, partition.partition
        part = run.ahead[number] = run.cursor.alone(number)
        try:
            await self._foresee(partition, reader, part)
        finally:
            del run.ahead[number]
        run.cursor.take_in(part, MOST_SHOWN)
        await run.save()

    async def _foresee(self, partition: TopicPartition, reader: Reader, part: Cursor) -> None:
        run, number = self.run, partition.partition
        forecast = Forecast(run.handler, run.consumer.group, is_forced=run.asked.force, most_shown=MOST_SHOWN)
        start, end = part.next[str(number)], part.ends[str(number)]
        async with reading_ahead(reader, partition, start, end) as chunks:
            while chunk := await chunks.next():
                part.missed(number, chunk.start)
                if deliveries := run.wanted(chunk):
                    async with run.consumer.database.reading() as reading:
                        outcomes = await forecast.foresee(reading, deliveries)
                    part.count(Counter(each.envelope.type for each in deliveries), outcomes)
                part.reached(number, chunk.end)
                await run.save_now_and_then()
                await run.pace.rest(len(deliveries), run.job.check)
        forecast.finish()
        part.performers = [{"performerId": name, "changes": shown(each)} for name, each in forecast.shown.items()]
        part.performers_changing, part.is_exact = forecast.changing, forecast.is_exact


def shown(differences: Differences) -> dict[str, object]:
    """As the result has them: long texts are cut."""
    return {name: {"from": _cut(before), "to": _cut(after)} for name, (before, after) in differences.items()}


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return value[:SHOWN_CHARACTERS] + "…"
    return value
