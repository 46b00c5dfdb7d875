"""The provider's order of events, kept field by field.

Contract, §8.2: by `version` where the provider sends one, else by `timestamp`, a tie broken by arrival. Patches are
kept apart by field, so two of them that arrive in the wrong order end in the same row as in the right order.
"""

from collections.abc import Mapping
from typing import NamedTuple


class WriteVersion(NamedTuple):
    """When, in the provider's order, a value was written."""

    version: int | None
    at_micros: int
    """Unix microseconds of the event's `timestamp`."""
    arrival: int = 0
    """Place in the performer's partition of the log. So an event that waited, or is applied again, wins no tie against
    one that came after it."""

    def is_newer_than(self, other: "WriteVersion") -> bool:
        """Whether this comes after `other`. Versions decide when both have one; otherwise times do; then arrival."""
        if self.version is not None and other.version is not None:
            ours, theirs = self.version, other.version
        else:
            ours, theirs = self.at_micros, other.at_micros
        return ours > theirs or (ours == theirs and self.arrival > other.arrival)


def winning_fields(
    patch: Mapping[str, object], stamp: WriteVersion, stamps: Mapping[str, WriteVersion]
) -> dict[str, object]:
    """The part of `patch` that no newer write has overtaken.

    A field whose last write has an equal stamp is won by the patch: it is that very write, or came from another log.
    """
    return {
        field: value
        for field, value in patch.items()
        if (last := stamps.get(field)) is None or not last.is_newer_than(stamp)
    }
