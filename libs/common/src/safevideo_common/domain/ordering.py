"""The provider's order of events: each field is a last-writer-wins register.

A write carries a `WriteVersion`. A field keeps the value and the version of its greatest write (contract, §8.2).
Patches are ordered field by field, and the order of writes is total. So any patches, with and without versions, give
the same row in every order of arrival, also when they arrive again.
"""

from collections.abc import Mapping
from typing import NamedTuple


class WriteVersion(NamedTuple):
    """The position of a write in the provider's order, which is total.

    Any write with a version is newer than any write without one: times and versions cannot be mixed into one order
    (ADR 19). Writes with versions are ordered by version, the others by time; a tie is broken by arrival.
    """

    version: int | None
    """The provider's version number, where it sends one."""
    at_micros: int
    """Unix microseconds of the event's `timestamp`."""
    arrival: int = 0
    """Offset of the event's first record in the performer's partition. So a replay changes no tie."""

    def wins_over(self, other: "WriteVersion") -> bool:
        """Return whether this write is newer."""
        if self.version is None or other.version is None:
            if self.version is not other.version:
                return other.version is None
            ours, theirs = self.at_micros, other.at_micros
        else:
            ours, theirs = self.version, other.version
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
