"""The plan of a replay: its range, which is fixed at the start, its coverage, and its checkpoint."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.clock import format_timestamp
from safevideo_common.events.topics import RETENTION_DAYS
from safevideo_common.replay.request import ReplayParameters, milliseconds

KNOWN_OUTCOME: Final = "known"
"""The outcome of an event that is skipped because the inbox has it."""
MAX_COUNTED_TYPES: Final = 100
OTHER_TYPES: Final = "(others)"
MAX_RETENTION_DAYS: Final = max(RETENTION_DAYS.values())


class Coverage(msgspec.Struct, frozen=True, rename="camel"):
    """The part of the requested range that the topic still has. Times are RFC 3339."""

    requested_from: str | None
    available_from: str | None
    """From this time on no record is missing; null if nothing was ever deleted."""
    is_complete: bool
    deleted_meanwhile: int = 0
    """Records that retention deleted before the replay read them."""


class ReplayCheckpoint(msgspec.Struct, rename="camel"):
    """The position and the results of a replay, saved with its work. The keys are partition numbers as text."""

    next: dict[str, int]
    """The next offset to read."""
    ends: dict[str, int]
    """The end of the range, which is excluded. It is fixed when the replay begins."""
    total: int
    """Records in the range."""
    coverage: Coverage
    events: int = 0
    """Events that passed the filters."""
    by_type: dict[str, int] = {}
    by_outcome: dict[str, int] = {}
    performers: list[dict[str, object]] = []
    """Of a dry run: the first performers that would change, with their changes."""
    performers_changing: int = 0
    is_exact: bool = True

    @property
    def processed(self) -> int:
        """Return the number of processed records."""
        return self.total - sum(max(0, end - self.next[number]) for number, end in self.ends.items())

    def remaining_partitions(self, topic: str) -> list[TopicPartition]:
        """Return the partitions that are not complete, in order."""
        numbers = sorted(int(number) for number, end in self.ends.items() if self.next[number] < end)
        return [TopicPartition(topic, number) for number in numbers]

    def copy(self) -> "ReplayCheckpoint":
        """Return a copy to change in a transaction that may fail."""
        return parse_checkpoint(self.document())

    def for_partition(self, partition: int) -> "ReplayCheckpoint":
        """Return a checkpoint of one partition, without results."""
        number = str(partition)
        start, end = self.next[number], self.ends[number]
        coverage = msgspec.structs.replace(self.coverage, deleted_meanwhile=0)
        return ReplayCheckpoint({number: start}, {number: end}, end - start, coverage)

    def merge(self, part: "ReplayCheckpoint", max_performers: int) -> None:
        """Add the results of one partition. Keep the first `max_performers` performers."""
        self.next |= part.next
        self.count(part.by_type, part.by_outcome)
        self._add_deleted(part.coverage.deleted_meanwhile)
        self.performers += part.performers[: max_performers - len(self.performers)]
        self.performers_changing += part.performers_changing
        self.is_exact = self.is_exact and part.is_exact

    def advance_to(self, partition: int, offset: int) -> None:
        """Record that all records of the partition before `offset` are processed."""
        self.next[str(partition)] = max(offset, self.next[str(partition)])

    def skip_deleted(self, partition: int, start: int) -> None:
        """Skip the records before `start`: retention has deleted them."""
        position = self.next[str(partition)]
        deleted = min(start, self.ends[str(partition)]) - position
        if deleted > 0:
            self._add_deleted(deleted)
            self.advance_to(partition, position + deleted)

    def _add_deleted(self, records: int) -> None:
        if records:
            deleted = self.coverage.deleted_meanwhile + records
            self.coverage = msgspec.structs.replace(self.coverage, is_complete=False, deleted_meanwhile=deleted)

    def count(self, types: Mapping[str, int], outcomes: Mapping[str, int]) -> None:
        """Count events by type and by outcome."""
        for event_type, number in types.items():
            self.events += number
            has_room = event_type in self.by_type or len(self.by_type) < MAX_COUNTED_TYPES
            name = event_type if has_room else OTHER_TYPES
            self.by_type[name] = self.by_type.get(name, 0) + number
        for outcome, number in outcomes.items():
            if number:
                self.by_outcome[outcome] = self.by_outcome.get(outcome, 0) + number

    def document(self) -> dict[str, object]:
        """Return the checkpoint for the job's row."""
        document: dict[str, object] = msgspec.to_builtins(self)
        return document

    def result(self, *, is_dry: bool) -> dict[str, object]:
        """Return the result of the job, for its row and the API."""
        result: dict[str, object] = {
            "dryRun": is_dry,
            "events": self.events,
            "byType": self.by_type,
            "byOutcome": self.by_outcome,
            "coverage": msgspec.to_builtins(self.coverage),
        }
        if is_dry:
            result |= {
                "performers": self.performers,
                "performersChanging": self.performers_changing,
                "isExact": self.is_exact,
            }
        return result


def parse_checkpoint(document: Mapping[str, object]) -> ReplayCheckpoint:
    """Parse the result of `ReplayCheckpoint.document`. Raise `ValueError`."""
    return msgspec.convert(document, ReplayCheckpoint)


async def plan_replay(reader: Reader, request: ReplayParameters, now: datetime) -> ReplayCheckpoint:
    """Return the checkpoint of a replay that begins at `now`. Raise `BrokerUnavailable`."""
    oldest = await reader.start_offsets(request.topic)
    ends = await _ends(reader, request, await reader.end_offsets(request.topic))
    starts = oldest
    if request.since is not None:
        starts = await reader.offsets_for_time(request.topic, milliseconds(request.since))
    spans = {each: (min(starts[each], end), end) for each, end in ends.items() if each in starts}
    return ReplayCheckpoint(
        next={str(each.partition): start for each, (start, _) in spans.items()},
        ends={str(each.partition): end for each, (_, end) in spans.items()},
        total=sum(end - start for start, end in spans.values()),
        coverage=await _coverage(reader, request, oldest, now),
    )


async def _ends(
    reader: Reader, request: ReplayParameters, ends: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int]:
    """Return the ends of the range. They are not after the present ends: later records belong to the live flow."""
    if request.until is None:
        return ends
    until = await reader.offsets_for_time(request.topic, milliseconds(request.until))
    return {each: min(end, until.get(each, end)) for each, end in ends.items()}


async def _coverage(
    reader: Reader, request: ReplayParameters, oldest: Mapping[TopicPartition, int], now: datetime
) -> Coverage:
    since = [await _complete_since(reader, each, start, now) for each, start in oldest.items() if start]
    available = max(since, default=None)
    is_complete = available is None or (request.since is not None and request.since >= available)
    return Coverage(
        format_timestamp(request.since),
        format_timestamp(available),
        is_complete,
    )


async def _complete_since(reader: Reader, partition: TopicPartition, start: int, now: datetime) -> datetime:
    """Return the time from which on a partition with deleted records is complete."""
    if records := await reader.read(partition, start, 1):
        return records[0].published_at
    # The partition is empty. Retention has deleted no record that is younger than this.
    return now - timedelta(days=RETENTION_DAYS.get(partition.topic, MAX_RETENTION_DAYS))
