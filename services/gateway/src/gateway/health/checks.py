"""The health of the whole integration, computed from checks of its components (contract, §6)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from time import monotonic, perf_counter
from typing import Final, Self

from redis.asyncio import Redis

from safevideo_common.auth.authenticator import ApiKeyAuthenticator
from safevideo_common.broker.port import Broker
from safevideo_common.clock import Clock, rfc3339, utc_now
from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.observability.memory import resident_bytes
from safevideo_common.protections.runtime import Protections
from safevideo_common.quarantine import queries as quarantine_queries
from safevideo_common.resilience.breaker.breaker import BreakerState, BreakerStatus
from safevideo_common.resilience.fail_fast_redis import RedisUnavailable
from safevideo_common.tasks import cancel_and_wait
from safevideo_common.webhooks.spool_reports import SpoolReports

CRITICAL: Final = "database"
"""The whole is unhealthy without this component, and degraded without any other."""

ANSWER_SECONDS: Final = 2.0
CACHE_SECONDS: Final = 1.0
"""The time for which a report is reused."""

WEBHOOKS_WINDOW: Final = timedelta(minutes=5)

_MEMORY_WARNING: Final = 0.9
_MIB: Final = 1 << 20


class CheckStatus(StrEnum):
    """The status of one component."""

    HEALTHY = "healthy"
    WARNING = "warning"
    """Nothing failed, but an operator should know: the component is not configured, for example."""
    UNHEALTHY = "unhealthy"


class Overall(StrEnum):
    """The status of the whole."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. The message is public: it has no address and no secret."""

    status: CheckStatus
    message: str
    milliseconds: float | None = None
    """The duration of a check that ran in the background; None for one that runs now."""
    age: float = 0.0
    """Seconds since it ran."""


@dataclass(frozen=True, slots=True)
class IntegrationCheck:
    """A named check. A `probe` that raises, or takes over `seconds`, is unhealthy."""

    name: str
    seconds: float
    probe: Callable[[], Awaitable[CheckResult]]


@dataclass(frozen=True, slots=True)
class TimedResult:
    """The result of one check with its name and duration."""

    name: str
    result: CheckResult
    milliseconds: float


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The results of all checks, and the status of the whole."""

    started_at: datetime
    results: Sequence[TimedResult]
    status: Overall


class CachedHealthCheck:
    """The checks of all components, for many callers: a single flight at a time, reused for `CACHE_SECONDS`.

    The endpoint is public and must not let a client flood the components. A run continues when its callers leave; the
    end of the context cancels it.
    """

    def __init__(
        self, checks: Sequence[IntegrationCheck], clock: Clock, *, seconds: Callable[[], float] = monotonic
    ) -> None:
        self._checks = checks
        self._clock = clock
        self._seconds = seconds
        self._run: asyncio.Task[HealthReport] | None = None
        self._expires_at = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        if self._run is not None:
            await cancel_and_wait(self._run)

    async def latest(self) -> HealthReport:
        """Return the report of the current run, or of the last run while it is fresh."""
        if self._run is None or (self._run.done() and self._seconds() >= self._expires_at):
            self._run = asyncio.create_task(self._run_checks(), name="health-checks")
        return await asyncio.shield(self._run)  # a caller that leaves must not cancel it for the others

    async def _run_checks(self) -> HealthReport:
        started_at = self._clock()
        results = await run_checks(self._checks)
        self._expires_at = self._seconds() + CACHE_SECONDS
        return HealthReport(started_at, results, overall(results))


async def run_checks(checks: Sequence[IntegrationCheck]) -> list[TimedResult]:
    """Run all checks concurrently. Never raises."""
    return await asyncio.gather(*map(_timed, checks))


def overall(results: Sequence[TimedResult]) -> Overall:
    """Return the status of the whole. A warning does not change it."""
    unhealthy = {each.name for each in results if each.result.status is CheckStatus.UNHEALTHY}
    if CRITICAL in unhealthy:
        return Overall.UNHEALTHY
    return Overall.DEGRADED if unhealthy else Overall.HEALTHY


async def _timed(check: IntegrationCheck) -> TimedResult:
    started = perf_counter()
    result = await _result(check)
    elapsed = (perf_counter() - started) * 1000
    return TimedResult(check.name, result, elapsed if result.milliseconds is None else result.milliseconds)


async def _result(check: IntegrationCheck) -> CheckResult:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.probe()
    except SafeVideoError as error:
        reason = error.message
    except TimeoutError:
        reason = f"no answer within {check.seconds:g} s"
    except Exception as error:  # noqa: BLE001 - any failure is a failed check; its text could quote an address
        reason = f"no answer ({type(error).__name__})"
    return CheckResult(CheckStatus.UNHEALTHY, reason)


def build_checks(
    database: Database,
    redis: Redis,
    broker: Broker,
    authenticator: ApiKeyAuthenticator,
    sharegram: Callable[[], Awaitable[CheckResult]],
    memory_limit: int,
    protections: Protections,
    spools: SpoolReports,
) -> list[IntegrationCheck]:
    """Return the checks in the order of the contract, §6. `memory_limit` is in bytes."""

    async def memory() -> CheckResult:
        return memory_result(resident_bytes(), memory_limit)

    async def circuit_breaker() -> CheckResult:
        return breaker_result(protections.breaker.status())

    async def webhooks() -> CheckResult:
        return await webhooks_result(database, spools, utc_now())

    async def fallback() -> CheckResult:
        until = protections.fallback.until()
        if until is None:
            return CheckResult(CheckStatus.HEALTHY, "off")
        return CheckResult(CheckStatus.WARNING, f"on until {rfc3339(until)}")

    return [
        IntegrationCheck(CRITICAL, ANSWER_SECONDS, _answers(database.probe)),
        IntegrationCheck("redis", ANSWER_SECONDS, _answers(redis.ping)),
        IntegrationCheck("kafka", ANSWER_SECONDS, _answers(broker.probe)),
        IntegrationCheck("sharegramApi", ANSWER_SECONDS, sharegram),
        IntegrationCheck("authSystem", ANSWER_SECONDS, _answers(authenticator.probe)),
        IntegrationCheck("memory", ANSWER_SECONDS, memory),
        IntegrationCheck("circuitBreaker", ANSWER_SECONDS, circuit_breaker),
        IntegrationCheck("fallback", ANSWER_SECONDS, fallback),
        IntegrationCheck("webhooks", ANSWER_SECONDS, webhooks),
    ]


def breaker_result(status: BreakerStatus) -> CheckResult:
    """Return the result for the breaker to Sharegram: it is unhealthy while calls are rejected."""
    if status.state is BreakerState.CLOSED:
        return CheckResult(CheckStatus.HEALTHY, "closed" if status.is_shared else "closed (Redis is unavailable)")
    by_whom = " by an operator" if status.is_forced else "" if status.is_shared else " in this process alone"
    word = status.state.value.replace("_", "-")
    return CheckResult(CheckStatus.UNHEALTHY, f"{word}{by_whom}, next call in {status.retry_after} s")


async def webhooks_result(database: Database, spools: SpoolReports, now: datetime) -> CheckResult:
    """Return the result for the webhooks that came: it is unhealthy if they were only refused in `WEBHOOKS_WINDOW`.

    What waits in spools is known without Kafka and without the database. It is a warning: it is safe, and late.
    """
    since, (spooled, is_late) = now - WEBHOOKS_WINDOW, await _spooled(spools)
    try:
        async with database.read_connection() as reading:
            last_accepted = await inbox_queries.last_received_at(reading)
            refused = await quarantine_queries.summarize(reading, since)
    except SafeVideoError as error:
        return CheckResult(CheckStatus.UNHEALTHY, f"{error.message} {spooled}")
    accepted = "none accepted yet" if last_accepted is None else f"last accepted {rfc3339(last_accepted)}"
    minutes = WEBHOOKS_WINDOW // timedelta(minutes=1)
    why = f" ({', '.join(sorted(refused.recent_reasons))})" if refused.recent_reasons else ""
    message = f"{accepted}; {refused.recent} refused in {minutes} minutes{why}; {refused.waiting} in the quarantine"
    message += f"; {spooled}"
    if refused.recent and (last_accepted is None or last_accepted < since):
        return CheckResult(CheckStatus.UNHEALTHY, message)
    return CheckResult(CheckStatus.WARNING if refused.recent or is_late else CheckStatus.HEALTHY, message)


async def _spooled(spools: SpoolReports) -> tuple[str, bool]:
    """Return what is known of the spools in words, and whether something waits there."""
    try:
        processes, live, orphaned = await spools.summarize()
    except RedisUnavailable:
        return "spool not known without Redis", False
    oldest = f", the oldest for {live.oldest_seconds:.0f} s" if live.events else ""
    words = f"{live.events} in the spool{oldest}" if processes else "spool not reported"
    if orphaned:
        events, names = sum(each.events for each in orphaned), ", ".join(each.process for each in orphaned)
        words += f"; {events} in spools without a process ({names})"
    return words, live.events > 0 or bool(orphaned)


def memory_result(resident: int | None, limit: int) -> CheckResult:
    """Return the result for this many bytes of `limit`."""
    if resident is None:
        return CheckResult(CheckStatus.WARNING, "not measured on this operating system")
    message = f"{resident // _MIB} MiB of {limit // _MIB} MiB"
    if resident > limit:
        return CheckResult(CheckStatus.UNHEALTHY, message)
    return CheckResult(CheckStatus.WARNING if resident > limit * _MEMORY_WARNING else CheckStatus.HEALTHY, message)


def _answers(probe: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[CheckResult]]:
    async def check() -> CheckResult:
        await probe()
        return CheckResult(CheckStatus.HEALTHY, "answers")

    return check
