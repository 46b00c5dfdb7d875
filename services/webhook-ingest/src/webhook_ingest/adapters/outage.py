"""What the door remembers of the log: whether it is away."""

import time

from safevideo_common.observability.logs import FilteringBoundLogger


class Outage:
    """On from the first failure until the spool's task gets on again. One line says that spooling begins, one that it
    ends, however often the log comes and goes in between.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self.is_on = False
        self._log = log
        self._spooling_since: float | None = None

    def begin(self) -> None:
        """The log is away."""
        self.is_on = True
        if self._spooling_since is None:
            self._spooling_since = time.monotonic()
            self._log.warning("Spooling begins, the event log is away", code="SPOOLING")

    def end(self, events_left: int) -> None:
        """The log is back, and this many events are still in the spool."""
        self.is_on = False
        if self._spooling_since is not None and not events_left:
            seconds = round(time.monotonic() - self._spooling_since, 1)
            self._spooling_since = None
            self._log.info("Spooling ends, the event log has everything", code="SPOOLING", seconds=seconds)
