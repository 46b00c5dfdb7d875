"""`GET /api/integration/health`: its shape, Sharegram's part of it, and many who ask at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.health.checks import ANSWER_SECONDS
from gateway.settings import GatewaySettings
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually, ticking
from safevideo_testkit.http import Answer, Api, answer_when

HEALTH = "/api/integration/health"
PARTS = ["database", "redis", "kafka", "sharegramApi", "authSystem", "memory", "circuitBreaker", "fallback", "webhooks"]
LONGEST_SECONDS = ANSWER_SECONDS + 0.5
"""The longest deadline of a check, and half a second for all the rest."""
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


class Sharegram:
    """The one address of Sharegram's that health asks; it answers as told and counts."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def health(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.answers.wait()
        return web.json_response({"status": "ok"}, status=self.status)


@pytest.fixture
async def sharegram() -> AsyncIterator[Sharegram]:
    sharegram = Sharegram()
    app = web.Application()
    app.router.add_get("/v1/health", sharegram.health)
    async with TestServer(app) as server:
        sharegram.url = str(server.make_url("/v1"))
        yield sharegram
        sharegram.answers.set()


async def health_when(api: Api, status: str) -> Answer:
    """Return the first report with this status."""
    return await answer_when(lambda: api.get(HEALTH), lambda answer: bool(answer.json["status"] == status))


@pytest.fixture
def configured(settings: GatewaySettings, sharegram: Sharegram) -> GatewaySettings:
    return settings.model_copy(update={"sharegram_api_url": sharegram.url})


async def test_health_needs_no_key_and_is_healthy(start: Start, configured: GatewaySettings) -> None:
    async with start(configured) as api:
        answer = await health_when(api, "healthy")
    assert answer.status == 200
    health = answer.json
    assert set(health) == {"timestamp", "status", "checks"}
    assert list(health["checks"]) == PARTS
    for check in health["checks"].values():
        assert check["status"] == "healthy"
        assert check["message"]
        assert 0 <= check["responseTime"] < 10_000
        assert 0 <= check["age"] < 60


async def test_health_has_a_warning_if_sharegram_is_not_configured(gateway: Api) -> None:
    health = (await health_when(gateway, "healthy")).json
    assert health["checks"]["sharegramApi"]["status"] == "warning"
    assert health["checks"]["sharegramApi"]["message"] == "not configured"


async def test_health_is_degraded_if_sharegram_fails(
    start: Start, configured: GatewaySettings, sharegram: Sharegram
) -> None:
    sharegram.status = 503
    async with start(configured) as api:
        answer = await health_when(api, "degraded")
    assert answer.status == 200
    assert answer.json["checks"]["sharegramApi"] | {"responseTime": 0, "age": 0} == {
        "status": "unhealthy",
        "message": "Sharegram answered 503 Service Unavailable",
        "responseTime": 0,
        "age": 0,
    }


async def test_health_is_degraded_without_sharegram_and_hides_its_address(
    start: Start, settings: GatewaySettings
) -> None:
    port = free_port()
    gone = settings.model_copy(update={"sharegram_api_url": f"http://127.0.0.1:{port}/v1"})
    async with start(gone) as api:
        answer = await health_when(api, "degraded")
    assert answer.status == 200
    assert str(port).encode() not in answer.body


async def test_health_does_not_wait_for_a_hanging_sharegram(
    start: Start, configured: GatewaySettings, sharegram: Sharegram
) -> None:
    sharegram.answers.clear()
    async with start(configured) as api:
        async with ticking() as ticks:
            first = (await api.get(HEALTH)).json["checks"]["sharegramApi"]
        assert ticks.seconds < LONGEST_SECONDS
        assert (first["status"], first["message"]) == ("unhealthy", "no answer within 2 s")

        async def has_timed_out() -> bool:
            check = (await api.get(HEALTH)).json["checks"]["sharegramApi"]
            return bool(check["message"] == "ETIMEDOUT: no answer within 5 s")

        await eventually(has_timed_out, poll_seconds=0.1)
        sharegram.answers.set()
    assert sharegram.asked == 1


async def test_gateways_ask_sharegram_once_in_ten_seconds_together(
    start: Start, configured: GatewaySettings, sharegram: Sharegram
) -> None:
    async with start(configured) as one, start(configured) as other:
        for api in (one, other, one, other):
            check = (await api.get(HEALTH)).json["checks"]["sharegramApi"]
            assert (check["status"], check["message"]) == ("healthy", "answers")
    assert sharegram.asked == 1


async def test_concurrent_health_requests_share_one_run(
    start: Start, configured: GatewaySettings, sharegram: Sharegram
) -> None:
    sharegram.answers.clear()
    async with start(configured) as api:
        asking = [asyncio.create_task(api.get(HEALTH)) for _ in range(50)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not sharegram.asked:
                await asyncio.sleep(0)
        sharegram.answers.set()
        answers = await asyncio.gather(*asking)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) <= 2  # a connection that came late may have begun another
    assert sharegram.asked <= 2


async def test_cancelled_health_request_does_not_cancel_the_others(
    start: Start, configured: GatewaySettings, sharegram: Sharegram
) -> None:
    sharegram.answers.clear()
    async with start(configured) as api:
        leaving = asyncio.create_task(api.get(HEALTH))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not sharegram.asked:
                await asyncio.sleep(0)
        staying = asyncio.create_task(api.get(HEALTH))
        leaving.cancel()
        await asyncio.wait([leaving])
        sharegram.answers.set()
        assert (await staying).json["status"] == "healthy"
    assert sharegram.asked == 1
