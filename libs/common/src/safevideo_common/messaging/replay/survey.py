"""The range of a replay, fixed when it begins, and what of it the topic still has."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from safevideo_common.clock import rfc3339
from safevideo_common.events.topics import RETENTION_DAYS
from safevideo_common.messaging.port import Reader, TopicPartition
from safevideo_common.messaging.replay.cursor import Coverage, Cursor
from safevideo_common.messaging.replay.parameters import ReplayParameters, milliseconds

LONGEST_DAYS: Final = max(RETENTION_DAYS.values())


async def survey(reader: Reader, asked: ReplayParameters, now: datetime) -> Cursor:
    """The cursor of a replay that begins at `now`. Raises `LogUnavailable`."""
    kept = await reader.start_offsets(asked.topic)
    ends = await _before(reader, asked, await reader.end_offsets(asked.topic))
    starts = kept
    if asked.since is not None:
        starts = await reader.offsets_for_time(asked.topic, milliseconds(asked.since))
    spans = {each: (min(starts[each], end), end) for each, end in ends.items() if each in starts}
    return Cursor(
        next={str(each.partition): start for each, (start, _) in spans.items()},
        ends={str(each.partition): end for each, (_, end) in spans.items()},
        total=sum(end - start for start, end in spans.values()),
        coverage=await _coverage(reader, asked, kept, now),
    )


async def _before(
    reader: Reader, asked: ReplayParameters, ends: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int]:
    """The ends of what is replayed: never after the present ends, for what comes now comes to the live flow."""
    if asked.until is None:
        return ends
    until = await reader.offsets_for_time(asked.topic, milliseconds(asked.until))
    return {each: min(end, until.get(each, end)) for each, end in ends.items()}


async def _coverage(
    reader: Reader, asked: ReplayParameters, kept: Mapping[TopicPartition, int], now: datetime
) -> Coverage:
    since = [await _kept_since(reader, each, start, now) for each, start in kept.items() if start]
    available = max(since, default=None)
    is_complete = available is None or (asked.since is not None and asked.since >= available)
    return Coverage(
        None if asked.since is None else rfc3339(asked.since),
        None if available is None else rfc3339(available),
        is_complete,
    )


async def _kept_since(reader: Reader, partition: TopicPartition, start: int, now: datetime) -> datetime:
    """From when on a partition of which something was deleted has everything."""
    if records := await reader.read(partition, start, 1):
        return datetime.fromtimestamp(records[0].timestamp_ms / 1000, UTC)
    # It is empty, and nothing younger than this was old enough to go.
    return now - timedelta(days=RETENTION_DAYS.get(partition.topic, LONGEST_DAYS))
