"""How far a member is behind, for whoever does other work beside it."""

from typing import Final

UNNOTICED: Final = 1000
"""Records: two batches. Less than that comes and goes with every burst."""


class LiveLag:
    """The latest two looks of a member at what lies ahead of it."""

    def __init__(self) -> None:
        self.latest = 0
        self._before = 0

    def sees(self, records: int) -> None:
        """So many lie ahead now; 0 when that is not known, or when nobody consumes."""
        self._before, self.latest = self.latest, records

    @property
    def is_growing(self) -> bool:
        """Whether the member falls behind: then other work had better wait."""
        return self.latest > UNNOTICED and self.latest > self._before
