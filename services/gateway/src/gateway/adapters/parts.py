"""The parts whose health is shown, each with the question to it and how long its answer may take."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import ClientSession
from redis.asyncio import Redis

from gateway.handlers.health import VITAL, Finding, Part, PartState
from safevideo_common.database.engine import Database
from safevideo_common.messaging.port import EventLog
from safevideo_common.observability.memory import resident_bytes
from safevideo_common.sharegram.health import HEALTH_SECONDS, probe_sharegram
from safevideo_common.web.api_keys import ApiKeyAuthenticator

ANSWER_SECONDS: Final = 2.0
_NEARLY: Final = 0.9
_MIB: Final = 1 << 20


def parts_of(
    database: Database,
    redis: Redis,
    event_log: EventLog,
    keys: ApiKeyAuthenticator,
    http: ClientSession,
    sharegram_api_url: str,
    memory_limit: int,
) -> list[Part]:
    """All parts, in the order of the contract, §6. `memory_limit` is in bytes."""
    return [
        Part(VITAL, ANSWER_SECONDS, _answering(database.probe)),
        Part("redis", ANSWER_SECONDS, _answering(redis.ping)),
        Part("kafka", ANSWER_SECONDS, _answering(event_log.probe)),
        Part("sharegramApi", HEALTH_SECONDS, _sharegram(http, sharegram_api_url)),
        Part("authSystem", ANSWER_SECONDS, _answering(keys.probe)),
        Part("memory", ANSWER_SECONDS, _memory(memory_limit)),
        # No breaker or fallback stands between the gateway and anything it calls, so none can be open or on.
        Part("circuitBreaker", ANSWER_SECONDS, _always("no breaker is open")),
        Part("fallback", ANSWER_SECONDS, _always("off")),
    ]


def memory_finding(resident: int | None, limit: int) -> Finding:
    """What so many bytes of `limit` say. Pure."""
    if resident is None:
        return Finding(PartState.WARNING, "not measured on this operating system")
    message = f"{resident // _MIB} MiB of {limit // _MIB} MiB"
    if resident > limit:
        return Finding(PartState.UNHEALTHY, message)
    return Finding(PartState.WARNING if resident > limit * _NEARLY else PartState.HEALTHY, message)


def _answering(probe: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        await probe()
        return Finding(PartState.HEALTHY, "answers")

    return ask


def _sharegram(http: ClientSession, api_url: str) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        if not api_url:
            return Finding(PartState.WARNING, "not configured")
        await probe_sharegram(http, api_url)
        return Finding(PartState.HEALTHY, "answers")

    return ask


def _memory(limit: int) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        return memory_finding(resident_bytes(), limit)

    return ask


def _always(message: str) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        return Finding(PartState.HEALTHY, message)

    return ask
