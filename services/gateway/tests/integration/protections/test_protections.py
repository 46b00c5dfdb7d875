"""Breakers, fallback mode and flags over HTTP, and what health says of them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Answer, Api, answer_when

HEALTH = "/api/integration/health"
ADMIN = "/api/v1/admin"


async def send(gateway: Api, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
    async with gateway.session.request(method, gateway.base_url + ADMIN + path, json=body, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def answered(ask: Callable[[], Awaitable[Answer]]) -> Any:
    """Return the data of an answer. Ask again while Redis is unavailable."""
    return (await answer_when(ask, lambda answer: answer.status != 503)).json["data"]


async def health_of(gateway: Api, check: str) -> tuple[str, str]:
    found = (await gateway.get(HEALTH)).json["checks"][check]
    return found["status"], found["message"]


async def test_operator_opens_and_closes_the_breaker(gateway: Api, admin: dict[str, str]) -> None:
    [before] = (await gateway.get(f"{ADMIN}/breakers", admin)).json["data"]
    assert (before["name"], before["state"], before["lastAction"]) == ("sharegram", "closed", None)
    body = {"reason": "maintenance", "duration": 600}
    opened = (await send(gateway, "POST", "/breakers/sharegram/open", body, admin)).json["data"]
    assert (opened["state"], opened["lastAction"], opened["reason"]) == ("open", "open", "maintenance")
    assert opened["retryAfter"] == 300
    assert opened["forcedUntil"]

    async def is_open() -> bool:
        return (await health_of(gateway, "circuitBreaker"))[0] == "unhealthy"

    await eventually(is_open)
    assert (await health_of(gateway, "circuitBreaker"))[1] == "open by an operator, next call in 300 s"
    closed = (await send(gateway, "POST", "/breakers/sharegram/close", {}, admin)).json["data"]
    assert closed["state"] == "closed"

    async def is_closed() -> bool:
        return (await health_of(gateway, "circuitBreaker"))[0] == "healthy"

    await eventually(is_closed)
    reset = await send(gateway, "POST", "/breakers/sharegram/reset", {}, admin)
    assert reset.json["data"]["lastAction"] == "reset"


async def test_unknown_breaker_is_not_found(gateway: Api, admin: dict[str, str]) -> None:
    answer = await send(gateway, "POST", "/breakers/payments/open", {}, admin)
    assert (answer.status, answer.code) == (404, "NOT_FOUND")


async def test_fallback_mode_as_the_guide_types_it(gateway: Api, admin: dict[str, str]) -> None:
    body = {"provider": "sharegram", "enable": True, "duration": 3600}
    answer = (await send(gateway, "POST", "/integration/fallback", body, admin)).json["data"]
    assert answer["enabled"]

    async def is_on() -> bool:
        return (await health_of(gateway, "fallback")) == ("warning", f"on until {answer['until']}")

    await eventually(is_on)
    off = await send(gateway, "POST", "/integration/fallback", body | {"enable": False}, admin)
    assert off.json["data"] == answer | {"enabled": False, "until": None, "startedAt": off.json["data"]["startedAt"]}

    async def is_off() -> bool:
        return (await health_of(gateway, "fallback")) == ("healthy", "off")

    await eventually(is_off)
    entries = (await gateway.get(f"{ADMIN}/audit", admin)).json["data"]
    assert {"fallback.switched_on", "fallback.switched_off"} <= {entry["action"] for entry in entries}


@pytest.mark.parametrize(
    "body",
    [
        {"provider": "other", "enable": True},
        {"provider": "sharegram", "enable": "yes"},
        {"provider": "sharegram", "enable": True, "duration": 0},
    ],
)
async def test_wrong_fallback_body_is_rejected(gateway: Api, admin: dict[str, str], body: object) -> None:
    answer = await send(gateway, "POST", "/integration/fallback", body, admin)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")


async def test_flag_is_set_for_a_time(gateway: Api, admin: dict[str, str], redis: Redis) -> None:
    assert (await answered(lambda: gateway.get(f"{ADMIN}/flags/kyc", admin)))["isDefault"]
    body = {"enabled": False, "duration": 3600}
    changed = await answered(lambda: send(gateway, "PUT", "/flags/kyc", body, admin))
    assert changed == {"name": "kyc", "enabled": False, "isDefault": False, "expiresInSeconds": 3600}
    assert await redis.get("feature:kyc:enabled") == b"false"
    assert 0 < await redis.ttl("feature:kyc:enabled") <= 3600
    assert not (await answered(lambda: gateway.get(f"{ADMIN}/flags/kyc", admin)))["enabled"]
    assert (await gateway.get(f"{ADMIN}/flags/kcy", admin)).status == 404
    assert (await send(gateway, "PUT", "/flags/kcy", {"enabled": False}, admin)).status == 404
