"""The delay before the next attempt: exponential, capped, with jitter."""

from dataclasses import dataclass
from random import uniform


def jittered(seconds: float) -> float:
    """Return a random delay between half of `seconds` and `seconds`, so that replicas spread out."""
    return uniform(seconds / 2, seconds)  # noqa: S311 - no secret depends on jitter


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delays of a retry loop, in seconds."""

    initial: float
    maximum: float

    def ceiling(self, failures: int) -> float:
        """Return the longest delay after this number of failures in a row; 1 is the first."""
        return min(self.maximum, self.initial * 2.0 ** min(failures - 1, 32))

    def delay(self, failures: int) -> float:
        """Return a jittered delay below the ceiling."""
        return jittered(self.ceiling(failures))
