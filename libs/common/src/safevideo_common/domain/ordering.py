"""The provider's order of events: each field is a last-writer-wins register.

A write carries a `WriteVersion`. A field keeps the value and the version of its greatest write (contract, §8.2).
Patches are ordered field by field, so two patches give the same row in either order of arrival.
"""

from collections.abc import Mapping
from typing import NamedTuple


class WriteVersion(NamedTuple):
    """The position of a write in the provider's order."""

    version: int | None
    """The provider's version number, where it sends one."""
    at_micros: int
    """Unix microseconds of the event's `timestamp`."""
    arrival: int = 0
    """Offset in the performer's partition. An event that was delayed or replayed loses a tie against a later one."""

    def wins_over(self, other: "WriteVersion") -> bool:
        """Return whether this write is newer: by version when both have one, else by time, then by arrival."""
        if self.version is not None and other.version is not None:
            ours, theirs = self.version, other.version
        else:
            ours, theirs = self.at_micros, other.at_micros
        return ours > theirs or (ours == theirs and self.arrival > other.arrival)


def fields_won(
    patch: Mapping[str, object], write_version: WriteVersion, last_writes: Mapping[str, WriteVersion]
) -> dict[str, object]:
    """Return the part of `patch` that no newer write has overtaken.

    If versions are equal, the patch wins: it is the same write again, or a write from another topic.
    """
    return {
        field: value
        for field, value in patch.items()
        if (last := last_writes.get(field)) is None or not last.wins_over(write_version)
    }
