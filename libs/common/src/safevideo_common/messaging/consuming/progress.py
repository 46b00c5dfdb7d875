"""Whether a consumer makes progress: the liveness of its process."""

from time import monotonic
from typing import Final

from safevideo_common.errors import ServiceUnavailable

STALLED_SECONDS: Final = 90.0
"""Without a turn for this long the loop counts as stuck: longer than any deadline and delay inside it."""


class Progress:
    """A turn is a fetch, an applied batch, or a decision to wait for what is away: only a stuck loop makes none."""

    def __init__(self) -> None:
        self._last_turn = monotonic()

    def turned(self) -> None:
        """One more turn."""
        self._last_turn = monotonic()

    async def check(self) -> None:
        """Raises `ServiceUnavailable` when there has been no turn for `STALLED_SECONDS`."""
        if monotonic() - self._last_turn > STALLED_SECONDS:
            raise ServiceUnavailable("the consume loop is stuck")
