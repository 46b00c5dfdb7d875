"""How long to wait before trying again: exponential, capped, with full jitter."""

from dataclasses import dataclass
from random import uniform


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays of a retry that has one owner. All in seconds."""

    initial: float
    maximum: float

    def ceiling(self, tries: int) -> float:
        """The longest delay after `tries` failures in a row, 1 being the first."""
        return min(self.maximum, self.initial * 2.0 ** min(tries - 1, 32))

    def delay(self, tries: int) -> float:
        """A delay in the upper half below the ceiling: many who failed together do not return together."""
        ceiling = self.ceiling(tries)
        return uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter guards nothing
