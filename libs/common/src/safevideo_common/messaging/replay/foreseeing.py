"""A dry run: what is read is foreseen, partition by partition, and nothing is written but the job's own row."""

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
        cursor = run.cursor.copy()
        forecast = Forecast(
            run.handler,
            run.consumer.group,
            is_forced=run.asked.force,
            most_shown=MOST_SHOWN - len(cursor.performers),
        )
        start, end = cursor.next[str(number)], cursor.ends[str(number)]
        async with reading_ahead(reader, partition, start, end) as chunks:
            while chunk := await chunks.next():
                cursor.missed(number, chunk.start)
                if deliveries := run.wanted(chunk):
                    async with run.consumer.database.reading() as reading:
                        outcomes = await forecast.foresee(reading, deliveries)
                    cursor.count((each.envelope.type for each in deliveries), outcomes)
                cursor.reached(number, chunk.end)
                await run.save_now_and_then(cursor)
                await run.pace.rest(len(deliveries), run.job.check)
        forecast.finish()
        _take_in(forecast, cursor)
        run.cursor = cursor
        await run.save()


def _take_in(forecast: Forecast[Event, States], cursor: Cursor) -> None:
    cursor.performers += [
        {"performerId": name, "changes": shown(differences)} for name, differences in forecast.shown.items()
    ]
    cursor.performers_changing += forecast.changing
    cursor.is_exact = cursor.is_exact and forecast.is_exact


def shown(differences: Differences) -> dict[str, object]:
    """As the result has them: long texts are cut."""
    return {name: {"from": _cut(before), "to": _cut(after)} for name, (before, after) in differences.items()}


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return value[:SHOWN_CHARACTERS] + "…"
    return value
