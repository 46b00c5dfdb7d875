"""How much of the jobs a process takes on, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from safevideo_common.resilience.backoff import Backoff

STEPS_AT_ONCE: Final = 3
"""Transactions of handlers, of a pool of `POOL_SIZE`: the rest is for claims, endings and heartbeats."""
POOL_SIZE: Final = 7


@dataclass(frozen=True, slots=True)
class EngineBounds:
    """How much, how long."""

    slots: int
    """Jobs in hand."""
    lease_seconds: float
    poll_seconds: float
    retry: Backoff
    at_once: Mapping[str, int] = field(default_factory=dict)
    """Of these types no more than so many are in hand."""

    @property
    def claim(self) -> int:
        """Jobs of one claim: half of the slots, so that others are claimed while these end."""
        return max(1, self.slots // 2)
