"""The gate of jobs that need Sharegram: closed while it is known to be unavailable, and opened slowly after that."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from safevideo_common.protections.integration import SharegramIntegration
from safevideo_common.protections.watcher import FallbackMode
from safevideo_common.resilience.breaker.breaker import BreakerState, CircuitBreaker

JOB_TYPES: Final = ("kyc_verification", "kyc_resync", "performer_sync", "performer_fetch")
"""The job types that call Sharegram."""
RAMP_START: Final = 2
RAMP_SECONDS: Final = 1.0
"""After an outage the number of jobs doubles so often."""
RAMP_STEPS: Final = 8


class SharegramGate:
    """The gate of all job types that call Sharegram, in one process.

    - Integration switched off, fallback mode, or an open breaker: no job is claimed, so no row is written.
    - Half-open: one job of each type, as a probe.
    - Closed again: 2 jobs of each type, twice as many each second, and no limit after eight seconds.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        fallback: FallbackMode,
        integration: SharegramIntegration,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.changed: Final[list[Callable[[], None]]] = []
        self._breaker = breaker
        self._fallback = fallback
        self._integration = integration
        self._clock = clock
        self._was_closed = False
        self._open_since: float | None = None
        self._update()
        self._open_since = None  # no ramp at the start of the process
        breaker.changed.append(self._notify)
        fallback.changed.append(self._notify)
        integration.changed.append(self._notify)

    def capacity(self) -> int | None:
        """See `JobGate`."""
        self._update()
        if self._is_off or self._breaker.state is BreakerState.OPEN:
            return 0
        if self._breaker.state is BreakerState.HALF_OPEN:
            return 1
        if self._open_since is None:
            return None
        steps = int((self._clock() - self._open_since) / RAMP_SECONDS)
        if steps >= RAMP_STEPS:
            self._open_since = None
            return None
        return RAMP_START << steps

    @property
    def _is_off(self) -> bool:
        return self._fallback.until() is not None or self._integration.is_switched_off

    def _update(self) -> None:
        """Begin the ramp when Sharegram is available again."""
        is_available = not self._is_off and self._breaker.state is BreakerState.CLOSED
        if is_available and self._was_closed:
            self._open_since = self._clock()
        self._was_closed = not is_available

    def _notify(self) -> None:
        self._update()
        for callback in self.changed:
            callback()


class FeatureGate:
    """The gate of job types of a feature that can be switched off: their jobs wait until it is on again."""

    def __init__(self, behind: SharegramGate, is_enabled: Callable[[], bool]) -> None:
        self._behind = behind
        self._is_enabled = is_enabled

    @property
    def changed(self) -> list[Callable[[], None]]:
        """See `JobGate`. A feature that is switched on is seen at the next poll for jobs."""
        return self._behind.changed

    def capacity(self) -> int | None:
        """See `JobGate`."""
        return self._behind.capacity() if self._is_enabled() else 0
