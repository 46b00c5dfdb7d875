"""The state of the whole integration, from the states of its parts (contract, §6)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from time import monotonic, perf_counter
from typing import Final, Self

from aiohttp import ClientSession
from redis.asyncio import Redis

from safevideo_common.auth.authenticator import ApiKeyAuthenticator
from safevideo_common.broker.port import Broker
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.observability.memory import resident_bytes
from safevideo_common.sharegram.health import HEALTH_SECONDS, probe_sharegram
from safevideo_common.tasks import cancel_and_wait

CRITICAL: Final = "database"
"""Without this part nothing is served; without any other, less is."""


class CheckStatus(StrEnum):
    """The state of one part."""

    HEALTHY = "healthy"
    WARNING = "warning"
    """Nothing is broken, but someone may want to know: not configured, say."""
    UNHEALTHY = "unhealthy"


class Overall(StrEnum):
    """The state of the whole."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What asking a part has shown. The message is public: no address, no secret."""

    state: CheckStatus
    message: str


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A part with a name, and the question to it. `ask` that raises, or takes over `seconds`, finds it unhealthy."""

    name: str
    seconds: float
    ask: Callable[[], Awaitable[CheckResult]]


@dataclass(frozen=True, slots=True)
class TimedResult:
    """A part's name, what was found, and how many milliseconds that took."""

    name: str
    finding: CheckResult
    milliseconds: float


async def run_checks(parts: Sequence[HealthCheck]) -> list[TimedResult]:
    """Ask all parts, side by side. Never raises."""
    return await asyncio.gather(*(_run_check(part) for part in parts))


def overall(parts: Sequence[TimedResult]) -> Overall:
    """Unhealthy without the vital part, degraded without another. A warning alone leaves the whole healthy."""
    broken = {part.name for part in parts if part.finding.state is CheckStatus.UNHEALTHY}
    if CRITICAL in broken:
        return Overall.UNHEALTHY
    return Overall.DEGRADED if broken else Overall.HEALTHY


async def _run_check(part: HealthCheck) -> TimedResult:
    started = perf_counter()
    finding = await _finding(part)
    return TimedResult(part.name, finding, (perf_counter() - started) * 1000)


async def _finding(part: HealthCheck) -> CheckResult:
    try:
        async with asyncio.timeout(part.seconds):
            return await part.ask()
    except SafeVideoError as error:
        reason = error.message
    except TimeoutError:
        reason = f"no answer within {part.seconds:g} s"
    except Exception as error:  # noqa: BLE001 - however a part fails, it has failed; the text could quote an address
        reason = f"no answer ({type(error).__name__})"
    return CheckResult(CheckStatus.UNHEALTHY, reason)


# One examination for many callers: the health address is open to all, and must not become a way to flood the parts.


FRESH_SECONDS: Final = 1.0
"""How long a result is given out before the parts are asked again."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What the parts answered, and what follows for the whole."""

    asked_at: datetime
    parts: Sequence[TimedResult]
    state: Overall


class CachedHealthCheck:
    """Asks the parts once at a time, and again once the answers are older than `FRESH_SECONDS`.

    An examination ends by itself, also when nobody waits for it any more; leaving the context cancels it.
    """

    def __init__(self, parts: Sequence[HealthCheck], clock: Clock, *, seconds: Callable[[], float] = monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._seconds = seconds
        self._latest: asyncio.Task[HealthReport] | None = None
        self._fresh_until = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        if self._latest is not None:
            await cancel_and_wait(self._latest)

    async def latest(self) -> HealthReport:
        """The running examination's result, or the last one's while it is fresh. Takes as long as the slowest part."""
        if self._latest is None or (self._latest.done() and self._seconds() >= self._fresh_until):
            self._latest = asyncio.create_task(self._examine(), name="health-examination")
        return await asyncio.shield(self._latest)  # a caller that goes away must not end it for the others

    async def _examine(self) -> HealthReport:
        asked_at = self._clock()
        parts = await run_checks(self._parts)
        self._fresh_until = self._seconds() + FRESH_SECONDS
        return HealthReport(asked_at, parts, overall(parts))


# The parts whose health is shown, each with the question to it and how long its answer may take.


ANSWER_SECONDS: Final = 2.0
_NEARLY: Final = 0.9
_MIB: Final = 1 << 20


def build_checks(
    database: Database,
    redis: Redis,
    broker: Broker,
    keys: ApiKeyAuthenticator,
    http: ClientSession,
    sharegram_api_url: str,
    memory_limit: int,
) -> list[HealthCheck]:
    """All parts, in the order of the contract, §6. `memory_limit` is in bytes."""
    return [
        HealthCheck(CRITICAL, ANSWER_SECONDS, _answering(database.probe)),
        HealthCheck("redis", ANSWER_SECONDS, _answering(redis.ping)),
        HealthCheck("kafka", ANSWER_SECONDS, _answering(broker.probe)),
        HealthCheck("sharegramApi", HEALTH_SECONDS, _sharegram(http, sharegram_api_url)),
        HealthCheck("authSystem", ANSWER_SECONDS, _answering(keys.probe)),
        HealthCheck("memory", ANSWER_SECONDS, _memory(memory_limit)),
        # No breaker or fallback stands between the gateway and anything it calls, so none can be open or on.
        HealthCheck("circuitBreaker", ANSWER_SECONDS, _always("no breaker is open")),
        HealthCheck("fallback", ANSWER_SECONDS, _always("off")),
    ]


def memory_finding(resident: int | None, limit: int) -> CheckResult:
    """What so many bytes of `limit` say. Pure."""
    if resident is None:
        return CheckResult(CheckStatus.WARNING, "not measured on this operating system")
    message = f"{resident // _MIB} MiB of {limit // _MIB} MiB"
    if resident > limit:
        return CheckResult(CheckStatus.UNHEALTHY, message)
    return CheckResult(CheckStatus.WARNING if resident > limit * _NEARLY else CheckStatus.HEALTHY, message)


def _answering(probe: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[CheckResult]]:
    async def ask() -> CheckResult:
        await probe()
        return CheckResult(CheckStatus.HEALTHY, "answers")

    return ask


def _sharegram(http: ClientSession, api_url: str) -> Callable[[], Awaitable[CheckResult]]:
    async def ask() -> CheckResult:
        if not api_url:
            return CheckResult(CheckStatus.WARNING, "not configured")
        await probe_sharegram(http, api_url)
        return CheckResult(CheckStatus.HEALTHY, "answers")

    return ask


def _memory(limit: int) -> Callable[[], Awaitable[CheckResult]]:
    async def ask() -> CheckResult:
        return memory_finding(resident_bytes(), limit)

    return ask


def _always(message: str) -> Callable[[], Awaitable[CheckResult]]:
    async def ask() -> CheckResult:
        return CheckResult(CheckStatus.HEALTHY, message)

    return ask
