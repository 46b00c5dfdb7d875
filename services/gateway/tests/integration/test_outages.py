"""What health, the probes and the requests answer while Redis, Kafka or the database is gone or hangs."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr

from gateway.app import DATABASE_SECONDS, build_app
from gateway.health.checks import ANSWER_SECONDS
from gateway.settings import GatewaySettings
from safevideo_common.broker.open import open_broker
from safevideo_common.cache.redis import ANSWER_SECONDS as ANSWER_SECONDS_OF_REDIS
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS, ticking
from safevideo_testkit.http import Api, Json, running

HEALTH = "/api/integration/health"
EVENTS = "/api/v1/admin/events"
TROUBLES = pytest.mark.parametrize("trouble", ["killed", "paused"])
ON_MYSQL = pytest.mark.parametrize("database_kind", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
OUTAGES = 5
"""Attempts. A gateway remembers a key for ten seconds, and a busy machine may need longer to stop a server."""
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


async def until(api: Api, condition: Callable[[Json], bool]) -> Json:
    """The health once it is as wanted: a result may be as old as it is fresh."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition(health := (await api.get(HEALTH)).json):
            pass
    return health


def part_is(name: str, status: str) -> Callable[[Json], bool]:
    return lambda health: bool(health["checks"][name]["status"] == status)


def is_healthy(health: Json) -> bool:
    """Each check has an age of its own, so they notice the end of an outage one after the other."""
    return bool(health["status"] == "healthy")


@TROUBLES
async def test_gateway_is_degraded_while_redis_is_unavailable(
    gateway: Api, redis_server: RunningServer, trouble: str
) -> None:
    await until(gateway, part_is("redis", "healthy"))
    with getattr(redis_server, trouble)():
        async with ticking() as ticks:
            health = await until(gateway, part_is("redis", "unhealthy"))
        assert ticks.seconds < 10  # the check gives up by itself
        assert health["status"] == "degraded"
        assert (await gateway.get("/readyz")).status == 200
    await until(gateway, is_healthy)


async def test_gateway_starts_without_redis(
    start: Start, settings: GatewaySettings, store: Callable[..., Awaitable[int]], user: dict[str, str]
) -> None:
    performer_id = await store("sg_1")
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}")
    async with start(settings.model_copy(update={"redis_url": nowhere})) as api:
        assert (await api.get(f"/api/v1/performers/{performer_id}", user)).status == 200
        assert (await api.get("/readyz")).status == 200
        assert (await api.get(HEALTH)).json["status"] == "degraded"


async def test_gateway_starts_without_kafka_and_is_degraded(
    settings: GatewaySettings, log: FilteringBoundLogger
) -> None:
    async with (
        open_broker(f"127.0.0.1:{free_port()}", None) as gone,
        running(build_app(settings, gone, log), settings) as api,
    ):
        answer = await api.get(HEALTH)
        assert (await api.get("/readyz")).status == 200
    assert (answer.status, answer.json["status"]) == (200, "degraded")
    assert answer.json["checks"]["kafka"]["status"] == "unhealthy"


@ON_MYSQL
@TROUBLES
async def test_gateway_is_unhealthy_while_the_database_is_unavailable(
    gateway: Api, mysql_server: RunningServer, admin: dict[str, str], trouble: str
) -> None:
    assert (await gateway.get(EVENTS, admin)).status == 200
    with getattr(mysql_server, trouble)():
        health = await until(gateway, part_is("database", "unhealthy"))
        assert health["status"] == "unhealthy"
        assert health["checks"]["authSystem"]["status"] == "unhealthy"
        assert health["checks"]["redis"]["status"] == "healthy"
        statuses = [(await gateway.get(path)).status for path in (HEALTH, "/readyz", "/healthz")]
        assert statuses == [503, 503, 200]
    await until(gateway, is_healthy)
    assert (await gateway.get(EVENTS, admin)).status == 200


@ON_MYSQL
@TROUBLES
async def test_gateway_without_the_database_answers_from_the_cache_and_fails_in_time(
    gateway: Api,
    mysql_server: RunningServer,
    admin: dict[str, str],
    store: Callable[..., Awaitable[int]],
    trouble: str,
) -> None:
    cached = f"/api/v1/performers/{await store('sg_1')}"
    for _ in range(OUTAGES):
        assert (await gateway.get(cached, admin)).status == 200
        with getattr(mysql_server, trouble)():
            if (await gateway.get(cached, admin)).status != 200:
                continue
            async with ticking() as ticks:
                events = await gateway.get(EVENTS, admin)
            assert (events.status, events.code) == (503, "SERVICE_UNAVAILABLE")
            assert ticks.seconds < DATABASE_SECONDS + 10
            return
    pytest.fail("a cached performer needs the database")


@ON_MYSQL
async def test_health_with_everything_hanging_answers_within_the_longest_deadline(
    settings: GatewaySettings, log: FilteringBoundLogger, mysql_server: RunningServer, redis_server: RunningServer
) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # it accepts no connection
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    hanging = settings.model_copy(
        update={"sharegram_api_url": f"http://{address}/v1", "redis_timeout_seconds": ANSWER_SECONDS_OF_REDIS}
    )
    with silent:
        async with open_broker(address, None) as broker, running(build_app(hanging, broker, log), hanging) as api:
            with mysql_server.paused(), redis_server.paused():
                async with ticking() as ticks:
                    answer = await api.get(HEALTH)
            assert answer.status == 503
            assert ticks.seconds <= ANSWER_SECONDS + 0.5
            unhealthy = {name for name, check in answer.json["checks"].items() if check["status"] == "unhealthy"}
            assert {"database", "redis", "kafka", "sharegramApi", "authSystem"} <= unhealthy
