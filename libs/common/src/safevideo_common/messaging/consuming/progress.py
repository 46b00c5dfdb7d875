"""Whether a consumer makes progress: the liveness of its process."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from safevideo_common.errors import ServiceUnavailable

STALLED_SECONDS: Final = 90.0
"""Without a turn, or with records ahead and none fetched, for this long a loop counts as stuck: longer than any
deadline and delay inside it, and longer than a rebalance."""


class LoopProgress:
    """Of one loop. A turn is a fetch, an applied batch, or a decision to wait for what is away."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last_turn = now()
        self._hungry_since: float | None = None

    def turned(self) -> None:
        """One more turn."""
        self._last_turn = self._now()

    def ate(self) -> None:
        """Records were fetched, or nothing can be eaten now for a reason that is known and told."""
        self._hungry_since = None

    def sees(self, lag: int) -> None:
        """`lag` records lie ahead of it. Called every few seconds."""
        if not lag:
            self._hungry_since = None
        elif self._hungry_since is None:
            self._hungry_since = self._now()

    def fault(self) -> str:
        """Why the loop counts as stuck; empty when it does not."""
        now = self._now()
        if now - self._last_turn > STALLED_SECONDS:
            return "the consume loop is stuck"
        if self._hungry_since is not None and now - self._hungry_since > STALLED_SECONDS:
            return "there are records and the consume loop gets none"
        return ""


class Progress:
    """Of all loops of a process."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """`now` is a clock in seconds that never goes back."""
        self._now = now
        self._loops: list[LoopProgress] = []
        self._halted = ""

    def begin(self) -> LoopProgress:
        """That of one more loop."""
        self._loops.append(LoopProgress(self._now))
        return self._loops[-1]

    def halt(self, reason: str) -> None:
        """Consuming has stopped for good, on purpose."""
        self._loops.clear()
        self._halted = reason

    async def check(self) -> None:
        """Raises `ServiceUnavailable` when a loop is stuck: a new process may do better. Not when halted."""
        for loop in self._loops:
            if fault := loop.fault():
                raise ServiceUnavailable(fault)

    async def check_consuming(self) -> None:
        """Raises `ServiceUnavailable` when consuming has halted: only an operator can help."""
        if self._halted:
            raise ServiceUnavailable(f"consuming has halted: {self._halted}")
