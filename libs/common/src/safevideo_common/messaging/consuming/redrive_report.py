"""What a redrive found and did, and how it is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safevideo_common.database.inbox_redriving import Tally


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found, and how many events it has taken up."""

    tallies: Sequence[Tally]
    sample: Sequence[int]
    """Row ids of the first that can be taken up."""
    is_complete: bool
    """Whether nothing is left that could be taken up."""
    redriven: int = 0

    @property
    def events(self) -> int:
        """How many matched."""
        return sum(tally.events for tally in self.tallies)

    @property
    def redrivable(self) -> int:
        """How many of them can be taken up."""
        return sum(tally.redrivable for tally in self.tallies)

    def counted(self, part: Callable[[Tally], str]) -> dict[str, int]:
        """How many matched, by `part`."""
        counts: dict[str, int] = {}
        for tally in self.tallies:
            counts[part(tally)] = counts.get(part(tally), 0) + tally.events
        return counts

    def document(self, *, is_dry: bool) -> dict[str, object]:
        """As the API and the command tell it. All counts but `redriven` are from before the run."""
        return {
            "dryRun": is_dry,
            "matching": self.events,
            "redrivable": self.redrivable,
            "notRedrivable": self.events - self.redrivable,
            "byType": self.counted(lambda tally: tally.event_type),
            "byReason": self.counted(lambda tally: tally.code),
            "byGroup": self.counted(lambda tally: tally.group),
            "sample": list(self.sample),
            "redriven": self.redriven,
            "complete": self.is_complete,
        }
