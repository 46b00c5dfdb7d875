"""The range of a replay, fixed when it begins, and what of it the topic still has."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.clock import format_timestamp
from safevideo_common.events.topics import RETENTION_DAYS
from safevideo_common.replay.request import ReplayParameters, milliseconds

# How far a replay is and what it has found: saved with its work, so that one that is cut off goes on right there.


KNOWN: Final = "known"
"""The outcome of an event that the inbox has: it was passed over."""
MAX_COUNTED_TYPES: Final = 100
OTHER_TYPES: Final = "(others)"


class Coverage(msgspec.Struct, frozen=True, rename="camel"):
    """Whether the topic still has all that was asked for. Times are RFC 3339."""

    requested_from: str | None
    available_from: str | None
    """From then on nothing is missing; null where nothing has ever been deleted."""
    is_complete: bool
    deleted_meanwhile: int = 0
    """Records that retention took away before the replay had come to them."""


class ReplayCheckpoint(msgspec.Struct, rename="camel"):
    """Partitions by their number, as JSON wants it: as text."""

    next: dict[str, int]
    """The next offset to read."""
    ends: dict[str, int]
    """What is replayed ends before it: fixed when the replay began."""
    total: int
    """Records from there to here."""
    coverage: Coverage
    events: int = 0
    """That the filters have let through."""
    by_type: dict[str, int] = {}
    by_outcome: dict[str, int] = {}
    performers: list[dict[str, object]] = []
    """Of a dry run: who would change, and what from what to what; the first so many."""
    performers_changing: int = 0
    is_exact: bool = True

    @property
    def processed(self) -> int:
        """Records that are done with."""
        return self.total - sum(max(0, end - self.next[number]) for number, end in self.ends.items())

    def left(self, topic: str) -> list[TopicPartition]:
        """The partitions that are not done, in order."""
        numbers = sorted(int(number) for number, end in self.ends.items() if self.next[number] < end)
        return [TopicPartition(topic, number) for number in numbers]

    def copy(self) -> "ReplayCheckpoint":
        """One to change, for a transaction that may fail."""
        return parse_checkpoint(self.document())

    def alone(self, partition: int) -> "ReplayCheckpoint":
        """That of one partition, in which nothing has been found yet."""
        number = str(partition)
        start, end = self.next[number], self.ends[number]
        coverage = msgspec.structs.replace(self.coverage, deleted_meanwhile=0)
        return ReplayCheckpoint({number: start}, {number: end}, end - start, coverage)

    def take_in(self, part: "ReplayCheckpoint", most_shown: int) -> None:
        """What was found in a partition alone. Of the performers the first `most_shown` are kept."""
        self.next |= part.next
        self.count(part.by_type, part.by_outcome)
        self._lost(part.coverage.deleted_meanwhile)
        self.performers += part.performers[: most_shown - len(self.performers)]
        self.performers_changing += part.performers_changing
        self.is_exact = self.is_exact and part.is_exact

    def reached(self, partition: int, offset: int) -> None:
        """Everything of the partition before `offset` is done."""
        self.next[str(partition)] = max(offset, self.next[str(partition)])

    def missed(self, partition: int, start: int) -> None:
        """What is left of the partition begins at `start` now: what was before it is gone."""
        reached = self.next[str(partition)]
        gone = min(start, self.ends[str(partition)]) - reached
        if gone > 0:
            self._lost(gone)
            self.reached(partition, reached + gone)

    def _lost(self, records: int) -> None:
        if records:
            deleted = self.coverage.deleted_meanwhile + records
            self.coverage = msgspec.structs.replace(self.coverage, is_complete=False, deleted_meanwhile=deleted)

    def count(self, types: Mapping[str, int], outcomes: Mapping[str, int]) -> None:
        """So many events of these types, with these outcomes."""
        for event_type, number in types.items():
            self.events += number
            room = event_type in self.by_type or len(self.by_type) < MAX_COUNTED_TYPES
            name = event_type if room else OTHER_TYPES
            self.by_type[name] = self.by_type.get(name, 0) + number
        for outcome, number in outcomes.items():
            if number:
                self.by_outcome[outcome] = self.by_outcome.get(outcome, 0) + number

    def document(self) -> dict[str, object]:
        """As the job's row has it."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found

    def result(self, *, is_dry: bool) -> dict[str, object]:
        """What the job has found, for its row and the API."""
        found: dict[str, object] = {
            "dryRun": is_dry,
            "events": self.events,
            "byType": self.by_type,
            "byOutcome": self.by_outcome,
            "coverage": msgspec.to_builtins(self.coverage),
        }
        if is_dry:
            found |= {
                "performers": self.performers,
                "performersChanging": self.performers_changing,
                "isExact": self.is_exact,
            }
        return found


def parse_checkpoint(document: Mapping[str, object]) -> ReplayCheckpoint:
    """Inverse of `Cursor.document`. Raises `ValueError` for what is none."""
    return msgspec.convert(document, ReplayCheckpoint)


MAX_DAYS: Final = max(RETENTION_DAYS.values())


async def plan_replay(reader: Reader, asked: ReplayParameters, now: datetime) -> ReplayCheckpoint:
    """The cursor of a replay that begins at `now`. Raises `BrokerUnavailable`."""
    kept = await reader.start_offsets(asked.topic)
    ends = await _before(reader, asked, await reader.end_offsets(asked.topic))
    starts = kept
    if asked.since is not None:
        starts = await reader.offsets_for_time(asked.topic, milliseconds(asked.since))
    spans = {each: (min(starts[each], end), end) for each, end in ends.items() if each in starts}
    return ReplayCheckpoint(
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
        format_timestamp(asked.since),
        format_timestamp(available),
        is_complete,
    )


async def _kept_since(reader: Reader, partition: TopicPartition, start: int, now: datetime) -> datetime:
    """From when on a partition of which something was deleted has everything."""
    if records := await reader.read(partition, start, 1):
        return datetime.fromtimestamp(records[0].timestamp_ms / 1000, UTC)
    # It is empty, and nothing younger than this was old enough to go.
    return now - timedelta(days=RETENTION_DAYS.get(partition.topic, MAX_DAYS))
