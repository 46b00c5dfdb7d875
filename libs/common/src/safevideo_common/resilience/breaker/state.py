"""The state of a breaker: shared in Redis, or of one process. Both follow the diagram of state.lua."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from random import uniform
from secrets import token_hex
from time import monotonic
from typing import Final, Literal, NamedTuple

from safevideo_common.resilience.fail_fast_redis import FailFastRedis

MAX_OPEN_SECONDS: Final = 300.0
MAX_LEASE_SECONDS: Final = 180.0
PROCESS_SECONDS: Final = 10.0
"""A process counts as running for so long after its last report."""
PARTS: Final = 10
"""The window ends between 9 and 10 tenths of its length ago: a tenth expires at once."""
JITTER: Final = 0.1
"""An open state is up to so much shorter, so that several breakers do not probe at once. It is never longer."""

REDIS_TIME: Final = "(function(time) return time[1] + time[2] / 1000000 end)(redis.call('TIME'))"

ProbeOutcome = Literal["success", "failure", "release"]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The numbers of a breaker (contract, §10). Times are in seconds."""

    failures: int = 5
    """So many failures in the window open it, if they are at least half of the calls that are counted."""
    window_seconds: float = 60.0
    open_seconds: float = MAX_OPEN_SECONDS
    probes: int = 3
    """Leases of probes at a time, of all processes together."""


class BreakerSnapshot(NamedTuple):
    """The state as one decision left it."""

    epoch: str
    open_seconds: float | None
    """How long it stays open; 0 while half-open, None while closed."""
    probes: int
    """Leases that are in use."""
    failures: int
    successes: int
    """Successes are counted only while the window has a failure."""
    processes: int
    """Processes that reported within the last `PROCESS_SECONDS`."""
    signal: str = ""
    """Another text than before: an operator has changed an override in the database."""


CLOSED: Final = BreakerSnapshot("", None, 0, 0, 0, 0)


def jittered_open(seconds: float) -> float:
    """Return the seconds to stay open: a little shorter at random."""
    return seconds * uniform(1 - JITTER, 1)  # noqa: S311 - no secret depends on jitter


def new_token() -> str:
    """Return a random text. A counter would repeat after Redis has lost its last writes."""
    return token_hex(8)


class SharedBreakerState:
    """The state in Redis. Each method is one round trip and raises `RedisUnavailable`.

    - A report that arrives twice counts twice; a lease that is settled twice changes nothing the second time.
    - A state that was lost is restored by the next report of a process that knows it open.
    - Every time is clamped, so a clock that jumps by an hour keeps nothing open for longer than `MAX_OPEN_SECONDS`.
    """

    def __init__(
        self,
        redis: FailFastRedis,
        name: str,
        policy: BreakerPolicy,
        *,
        jitter: Callable[[float], float] = jittered_open,
        token: Callable[[], str] = new_token,
        now: str = REDIS_TIME,
    ) -> None:
        """`now` is the Lua expression of the current seconds."""
        self._key = f"breaker:{{{name}}}"
        self._policy = policy
        self._jitter = jitter
        self._token = token
        source = files(__package__).joinpath("state.lua").read_text("utf-8")
        self._script = redis.script(source.replace("$NOW", now))

    async def report(
        self, process: str, epoch: str, successes: int = 0, failures: int = 0, *, known_open: float = 0.0
    ) -> BreakerSnapshot:
        """Count outcomes of calls that began in this epoch, and say that the process is running.

        `known_open` are the seconds for which the process knows the breaker to be open.
        """
        return (await self._run("report", process, epoch, successes, failures, max(0.0, known_open)))[0]

    async def acquire(self, token: str, seconds: float) -> tuple[bool, BreakerSnapshot]:
        """Lease a probe for `seconds`. False unless the breaker is half-open and a lease is free."""
        snapshot, granted = await self._run("acquire", "", "", token, seconds)
        return granted, snapshot

    async def settle(self, token: str, outcome: ProbeOutcome) -> BreakerSnapshot:
        """End a lease: close the breaker, open it again, or give the lease back. An ended lease changes nothing."""
        return (await self._run("settle", "", "", token, outcome))[0]

    async def close(self) -> BreakerSnapshot:
        """Close the breaker and forget all counts and leases."""
        return (await self._run("close", "", ""))[0]

    async def reset(self) -> BreakerSnapshot:
        """Forget the counts of the window. The breaker stays open or closed as it is."""
        return (await self._run("reset", "", ""))[0]

    async def signal(self) -> BreakerSnapshot:
        """Tell all processes that an override in the database has changed."""
        return (await self._run("signal", "", ""))[0]

    async def read(self) -> BreakerSnapshot:
        """Return the state."""
        return (await self._run("read", "", ""))[0]

    async def _run(
        self, operation: str, process: str, epoch: str, *arguments: str | float
    ) -> tuple[BreakerSnapshot, bool]:
        policy = self._policy
        open_seconds = self._jitter(policy.open_seconds)
        fixed = (operation, process, epoch, self._token(), policy.window_seconds, policy.failures, open_seconds)
        answer = await self._script.run(self._key, (*fixed, policy.probes, *arguments))
        epoch_now, open_ms, probes, failures, successes, processes, signal, granted = answer
        open_now = None if int(open_ms) < 0 else int(open_ms) / 1000
        counts = (int(probes), int(failures), int(successes), int(processes))
        return BreakerSnapshot(_text(epoch_now), open_now, *counts, _text(signal)), bool(granted)


def _text(value: bytes | int) -> str:
    assert isinstance(value, bytes)
    return value.decode()


class LocalBreakerState:
    """The same state in the memory of a process, by its own clock. Also the model that the script is tested against."""

    def __init__(
        self,
        policy: BreakerPolicy,
        *,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[float], float] = jittered_open,
        token: Callable[[], str] = new_token,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._token = token
        self._epoch = ""
        self._open_until: float | None = None
        self._failures: dict[float, int] = {}
        self._successes: dict[float, int] = {}
        self._failed: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._leases: dict[str, float] = {}

    def report(
        self, process: str, epoch: str, successes: int = 0, failures: int = 0, *, known_open: float = 0.0
    ) -> BreakerSnapshot:
        """See `SharedBreakerState.report`."""
        now = self._expire()
        self._running[process] = now + PROCESS_SECONDS
        if not self._epoch and known_open > 0:
            self._change(now + min(MAX_OPEN_SECONDS, known_open))
        elif epoch == self._epoch and self._open_until is None:
            if failures:
                self._add(self._failures, failures, now)
                self._failed[process] = now + self._policy.window_seconds
            if successes and self._failures:
                self._add(self._successes, successes, now)
            if failures and self._is_failing():
                self._change(now + min(MAX_OPEN_SECONDS, self._jitter(self._policy.open_seconds)))
        return self._snapshot(now)

    def acquire(self, token: str, seconds: float) -> tuple[bool, BreakerSnapshot]:
        """See `SharedBreakerState.acquire`."""
        now = self._expire()
        is_half_open = self._open_until is not None and self._open_until <= now
        granted = is_half_open and len(self._leases) < self._policy.probes
        if granted:
            self._leases[token] = now + min(MAX_LEASE_SECONDS, seconds)
        return granted, self._snapshot(now)

    def settle(self, token: str, outcome: ProbeOutcome) -> BreakerSnapshot:
        """See `SharedBreakerState.settle`."""
        now = self._expire()
        if self._leases.pop(token, None) is not None and outcome != "release":
            open_seconds = min(MAX_OPEN_SECONDS, self._jitter(self._policy.open_seconds))
            self._change(now + open_seconds if outcome == "failure" else None)
        return self._snapshot(now)

    def close(self) -> BreakerSnapshot:
        """See `SharedBreakerState.close`."""
        now = self._expire()
        self._change(None)
        return self._snapshot(now)

    def reset(self) -> BreakerSnapshot:
        """See `SharedBreakerState.reset`."""
        now = self._expire()
        self._forget_window()
        return self._snapshot(now)

    def read(self) -> BreakerSnapshot:
        """See `SharedBreakerState.read`."""
        return self._snapshot(self._expire())

    def open(self, seconds: float) -> BreakerSnapshot:
        """Open it for `seconds`; 0 makes it half-open. For a process that has lost the shared state."""
        now = self._expire()
        self._change(now + min(MAX_OPEN_SECONDS, seconds))
        return self._snapshot(now)

    def _expire(self) -> float:
        now = self._clock()
        for ends in (self._failures, self._successes):
            for end in [end for end in ends if end <= now]:
                del ends[end]
        for untils in (self._failed, self._running, self._leases):
            for name in [name for name, until in untils.items() if until <= now]:
                del untils[name]
        return now

    def _add(self, counts: dict[float, int], number: int, now: float) -> None:
        part = self._policy.window_seconds / PARTS
        end = now // part * part + self._policy.window_seconds
        counts[end] = counts.get(end, 0) + number

    def _is_failing(self) -> bool:
        failures, successes = sum(self._failures.values()), sum(self._successes.values())
        is_common = len(self._failed) >= min(2, len(self._running))
        return failures >= max(self._policy.failures, successes) and is_common

    def _change(self, open_until: float | None) -> None:
        self._epoch = self._token()
        self._open_until = open_until
        self._leases.clear()
        self._forget_window()

    def _forget_window(self) -> None:
        self._failures.clear()
        self._successes.clear()
        self._failed.clear()

    def _snapshot(self, now: float) -> BreakerSnapshot:
        open_seconds = None if self._open_until is None else max(0.0, self._open_until - now)
        failures, successes = sum(self._failures.values()), sum(self._successes.values())
        return BreakerSnapshot(self._epoch, open_seconds, len(self._leases), failures, successes, len(self._running))
