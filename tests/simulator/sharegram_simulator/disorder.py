"""Intended disorder of webhooks: some are sent again although they were accepted, some are overtaken."""

import random
from dataclasses import dataclass, field
from typing import Final

LONGEST_PAUSE: Final = 5.0
"""Seconds that a duplicate or an overtaken webhook waits at most, before the factor that shortens all pauses."""


@dataclass(slots=True)
class Disorder:
    """The shares of webhooks that it hits, from 0 to 1. `PUT /_sim/disorder` changes them."""

    duplicate_rate: float = 0.0
    reorder_rate: float = 0.0
    dice: random.Random = field(default_factory=random.Random)

    def duplicates(self) -> bool:
        """Return True if this webhook is sent once more."""
        return self.dice.random() < self.duplicate_rate

    def holds_back(self) -> bool:
        """Return True if later webhooks of its performer may overtake this webhook."""
        return self.dice.random() < self.reorder_rate

    def pause(self) -> float:
        """Seconds until it is sent."""
        return self.dice.uniform(0, LONGEST_PAUSE)
