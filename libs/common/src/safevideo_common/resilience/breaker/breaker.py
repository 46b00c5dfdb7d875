"""The breaker of one process: it decides by its view of the shared state, or by its own state without Redis."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from time import monotonic
from typing import Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from safevideo_common.errors import CircuitBreakerOpen
from safevideo_common.resilience.backoff import jittered
from safevideo_common.resilience.breaker.state import (
    CLOSED,
    BreakerPolicy,
    BreakerSnapshot,
    LocalBreakerState,
    ProbeOutcome,
    SharedBreakerState,
    new_token,
)
from safevideo_common.resilience.fail_fast_redis import RedisUnavailable
from safevideo_common.tasks import wait_event

POLL_SECONDS: Final = 0.5
"""The longest time between two reports of a process: what others know is at most so old."""
LEASE_MARGIN_SECONDS: Final = 5.0
"""A lease outlives the timeout of its probe by so much."""
HALF_OPEN_RETRY_SECONDS: Final = 5
"""What a caller is told to wait that the half-open breaker rejects."""
MAX_RETRY_SECONDS: Final = 300
MAX_PENDING_PROBES: Final = 32


class BreakerState(StrEnum):
    """The state of a breaker for the callers of this process."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerStatus(NamedTuple):
    """A breaker as operators see it."""

    state: BreakerState
    retry_after: int
    """Seconds until a call may go out; 0 while closed."""
    is_forced: bool
    """An operator has opened it."""
    is_shared: bool
    """False if the state is of this process alone: Redis is unavailable, or the others have no failures."""
    failures: int
    successes: int
    probes: int
    processes: int


class CircuitBreaker:
    """A breaker. `acquire` gives permits, `run` reports to the other processes and polls their state.

    - Closed and open it answers without I/O. Half-open, one caller of the process at a time asks Redis.
    - Outcomes never wait: `run` sends them. A report that Redis did not answer is not sent again.
    - Without Redis the process goes on with a state of its own, which begins with what it knew last.
    - With Redis a process in which alone calls fail opens for itself.
    """

    def __init__(
        self,
        name: str,
        shared: SharedBreakerState,
        logger: FilteringBoundLogger,
        policy: BreakerPolicy,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.name: Final = name
        self.changed: Final[list[Callable[[], None]]] = []
        """Called after each change of the state."""
        self.signalled: Final = asyncio.Event()
        """Set when an operator has changed an override in the database, or Redis has lost the signal."""
        self._shared = shared
        self._logger = logger
        self._clock = clock
        self._process = new_token()
        self._local = LocalBreakerState(policy, clock=clock)
        self._local_view = CLOSED
        self._view = CLOSED
        self._view_open_until = 0.0
        self._has_shared = False
        self._forced_until = 0.0
        self._rejected_until = 0.0
        self._successes = 0
        self._failures = 0
        self._probe_outcomes: deque[tuple[str, ProbeOutcome, float]] = deque(maxlen=MAX_PENDING_PROBES)
        self._wake = asyncio.Event()
        self._state = BreakerState.CLOSED
        self._permit: Permit | None = Permit(self)

    @property
    def state(self) -> BreakerState:
        """The state now."""
        self._refresh()
        return self._state

    @property
    def has_shared_state(self) -> bool:
        """Return whether Redis answered the last poll."""
        return self._has_shared

    @property
    def processes(self) -> int:
        """The last known number of processes that share the breaker, at least 1."""
        return max(1, self._view.processes)

    def status(self) -> BreakerStatus:
        """Return the state with its numbers."""
        state, now = self.state, self._clock()
        is_shared = self._has_shared and (self._view.open_seconds is not None or self._local_view.open_seconds is None)
        view = self._view if is_shared else self._local_view
        return BreakerStatus(
            state, self._retry_after(now), now < self._forced_until, is_shared,
            view.failures, view.successes, view.probes, self.processes,
        )  # fmt: skip

    async def acquire(self, seconds: float) -> "Permit":
        """Return a permit for a call that takes at most `seconds`. Raises `CircuitBreakerOpen`."""
        permit = self._permit or self._refreshed_permit()
        if permit is not None:
            return permit
        if self._state is BreakerState.HALF_OPEN and self._is_shared_open():
            with suppress(RedisUnavailable):
                return await self._acquire_shared_probe(seconds + LEASE_MARGIN_SECONDS)
        if self._state is BreakerState.HALF_OPEN:
            token = new_token()
            granted, self._local_view = self._local.acquire(token, seconds + LEASE_MARGIN_SECONDS)
            if granted:
                return Permit(self, token)
        raise self._rejection()

    def force_open(self, seconds: float) -> None:
        """Reject all calls for `seconds` since an operator said so; 0 ends that."""
        self._forced_until = self._clock() + seconds if seconds > 0 else 0.0
        self._refresh()

    def close_locally(self) -> None:
        """Forget what this process found out by itself: an operator has closed the breaker or reset its counts."""
        self._local_view = self._local.close()
        self._refresh()

    async def run(self) -> None:
        """Report and poll until cancelled."""
        while True:
            await self.poll()
            await wait_event(self._wake, jittered(POLL_SECONDS))
            self._wake.clear()

    async def poll(self) -> None:
        """Send the outcomes that are pending and take over the state of the other processes. Never raises for Redis."""
        try:
            for _ in range(len(self._probe_outcomes)):
                await self._send_probe_outcome(*self._probe_outcomes.popleft())
            successes, failures = self._successes, self._failures
            self._successes = self._failures = 0
            known_open = self._view_open_until - self._clock() if self._view.open_seconds is not None else 0.0
            epoch = self._view.epoch
            snapshot = await self._shared.report(self._process, epoch, successes, failures, known_open=known_open)
        except RedisUnavailable:
            self._lose_shared()
        else:
            self._see(snapshot)

    async def _acquire_shared_probe(self, lease_seconds: float) -> "Permit":
        if self._clock() < self._rejected_until:
            raise self._rejection()
        self._rejected_until = self._clock() + POLL_SECONDS  # one caller asks Redis
        probe = Permit(self, new_token(), is_shared=True, until=self._clock() + lease_seconds)
        try:
            granted, snapshot = await self._shared.acquire(probe.token, lease_seconds)
        except BaseException as error:
            probe.release()  # the lease may exist
            if isinstance(error, RedisUnavailable):
                self._lose_shared()
            raise
        self._see(snapshot)
        if granted:
            self._rejected_until = 0.0
            return probe
        if self._permit is not None:  # closed meanwhile
            return self._permit
        raise self._rejection()

    async def _send_probe_outcome(self, token: str, outcome: ProbeOutcome, until: float) -> None:
        if self._clock() >= until:
            return  # its lease has ended
        try:
            self._see(await self._shared.settle(token, outcome))
        except RedisUnavailable:
            self._probe_outcomes.append((token, outcome, until))
            raise

    def _refreshed_permit(self) -> "Permit | None":
        self._refresh()
        return self._permit

    def _is_shared_open(self) -> bool:
        return self._has_shared and self._view.open_seconds is not None

    def _see(self, snapshot: BreakerSnapshot) -> None:
        """Take over a view. A transition of the shared state ends what this process found out by itself."""
        is_open = snapshot.open_seconds is not None
        if snapshot.epoch and snapshot.epoch != self._view.epoch and (self._view.epoch or is_open):
            self._local_view = self._local.close()
        if snapshot.signal != self._view.signal:
            self.signalled.set()
        self._view = snapshot
        self._view_open_until = self._clock() + (snapshot.open_seconds or 0.0)
        self._has_shared = True
        self._refresh()

    def _lose_shared(self) -> None:
        if self._has_shared:
            self._has_shared = False
            self._logger.warning("Circuit breaker without Redis, goes on with its own state", breaker=self.name)
            if self._view.open_seconds is not None:
                self._local_view = self._local.open(max(0.0, self._view_open_until - self._clock()))
        self._refresh()

    def _refresh(self) -> None:
        """Compute the state, and make a new permit for calls of the new state, so that outcomes of older ones end."""
        now = self._clock()
        if now < self._forced_until:
            state = BreakerState.OPEN
        elif self._is_shared_open():
            state = BreakerState.OPEN if now < self._view_open_until else BreakerState.HALF_OPEN
        else:
            if self._local_view.open_seconds:
                self._local_view = self._local.read()
            state = state_of(self._local_view)
        epochs = (self._view.epoch, self._local_view.epoch)
        if state is not BreakerState.CLOSED:
            self._permit = None
        elif self._permit is None or self._permit.epochs != epochs:
            self._permit = Permit(self, epochs=epochs)
            self._successes = self._failures = 0
        if state is not self._state:
            self._log_change(state)
            self._state = state
            for callback in self.changed:
                callback()

    def _log_change(self, state: BreakerState) -> None:
        write = self._logger.info if state is BreakerState.CLOSED else self._logger.warning
        write(
            "Circuit breaker changed", breaker=self.name, state=state.value, before=self._state.value,
            shared=self._has_shared, forced=self._clock() < self._forced_until,
        )  # fmt: skip

    def _retry_after(self, now: float) -> int:
        if self._state is BreakerState.CLOSED:
            return 0
        if self._state is BreakerState.HALF_OPEN:
            return HALF_OPEN_RETRY_SECONDS
        shared_until = self._view_open_until if self._is_shared_open() else now + (self._local_view.open_seconds or 0.0)
        return min(MAX_RETRY_SECONDS, max(1, ceil(max(self._forced_until, shared_until) - now)))

    def _rejection(self) -> CircuitBreakerOpen:
        return CircuitBreakerOpen(
            f"The circuit breaker to {self.name} is {self._state.value.replace('_', '-')}.",
            retry_after=self._retry_after(self._clock()),
        )

    def _count(self, permit: "Permit", *, failed: bool) -> None:
        """Count the outcome of a call. One that began before the last change of the state is ignored."""
        if permit is not self._permit:
            return
        if failed:
            self._failures += 1
            self._wake.set()
            self._report_locally(failures=1)
        elif self._view.failures or self._failures or self._local_view.failures:
            self._successes += 1
            self._report_locally(successes=1)

    def _report_locally(self, *, successes: int = 0, failures: int = 0) -> None:
        self._local_view = self._local.report("", self._local_view.epoch, successes, failures)
        self._refresh()

    def _settle(self, permit: "Permit", outcome: ProbeOutcome) -> None:
        if permit.is_shared:
            self._probe_outcomes.append((permit.token, outcome, permit.until))
            self._wake.set()
        else:
            self._local_view = self._local.settle(permit.token, outcome)
            self._refresh()


def state_of(snapshot: BreakerSnapshot) -> BreakerState:
    """Return the state that a snapshot means."""
    if snapshot.open_seconds is None:
        return BreakerState.CLOSED
    return BreakerState.OPEN if snapshot.open_seconds > 0 else BreakerState.HALF_OPEN


@dataclass(frozen=True, slots=True, eq=False)
class Permit:
    """A permit of the closed state, which its calls share; or of one probe, with the token of its lease."""

    breaker: CircuitBreaker
    token: str = ""
    is_shared: bool = False
    until: float = 0.0
    epochs: tuple[str, str] = ("", "")

    def succeed(self) -> None:
        """Report that the dependency answered."""
        if self.token:
            self.breaker._settle(self, "success")
        else:
            self.breaker._count(self, failed=False)

    def fail(self) -> None:
        """Report a failure of the dependency."""
        if self.token:
            self.breaker._settle(self, "failure")
        else:
            self.breaker._count(self, failed=True)

    def release(self) -> None:
        """Give the permit back: nothing is known about the dependency."""
        if self.token:
            self.breaker._settle(self, "release")
