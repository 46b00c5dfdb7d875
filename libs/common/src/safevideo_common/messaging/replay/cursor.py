"""How far a replay is and what it has found: saved with its work, so that one that is cut off goes on right there."""

from collections.abc import Mapping
from typing import Final

import msgspec

from safevideo_common.messaging.port import TopicPartition

KNOWN: Final = "known"
"""The outcome of an event that the inbox has: it was passed over."""
TYPES_COUNTED: Final = 100
OTHER_TYPES: Final = "(others)"


class Coverage(msgspec.Struct, frozen=True, rename="camel"):
    """Whether the topic still has all that was asked for. Times are RFC 3339."""

    requested_from: str | None
    available_from: str | None
    """From then on nothing is missing; null where nothing has ever been deleted."""
    is_complete: bool
    deleted_meanwhile: int = 0
    """Records that retention took away before the replay had come to them."""


class Cursor(msgspec.Struct, rename="camel"):
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

    def copy(self) -> "Cursor":
        """One to change, for a transaction that may fail."""
        return cursor_of(self.document())

    def alone(self, partition: int) -> "Cursor":
        """That of one partition, in which nothing has been found yet."""
        number = str(partition)
        start, end = self.next[number], self.ends[number]
        coverage = msgspec.structs.replace(self.coverage, deleted_meanwhile=0)
        return Cursor({number: start}, {number: end}, end - start, coverage)

    def take_in(self, part: "Cursor", most_shown: int) -> None:
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
            room = event_type in self.by_type or len(self.by_type) < TYPES_COUNTED
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


def cursor_of(document: Mapping[str, object]) -> Cursor:
    """Inverse of `Cursor.document`. Raises `ValueError` for what is none."""
    return msgspec.convert(document, Cursor)
