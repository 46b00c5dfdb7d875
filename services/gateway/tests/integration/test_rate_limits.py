"""Rate limits by the contract, §2: who is counted, for which limit, and what the caller sees."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr

from gateway.settings import GatewaySettings
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.http import Api

HEALTH = "/api/integration/health"
PERFORMER = "/api/v1/performers/1"
JOBS = "/api/v1/admin/jobs"
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]
Limited = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def limited(start: Start, settings: GatewaySettings) -> Limited:
    """Runs a gateway with slow limits, so that no token comes back during a test."""
    slow = {"rate_limit_general": "3/86400", "rate_limit_authentication": "2/86400"}
    return lambda **changes: start(settings.model_copy(update=slow | changes))


async def statuses(api: Api, path: str, *headers: Mapping[str, str]) -> list[int]:
    return [(await api.get(path, each)).status for each in headers]


async def test_principal_is_limited_and_sees_what_is_left(
    limited: Limited, admin: dict[str, str], user: dict[str, str]
) -> None:
    async with limited() as api:
        answers = [await api.get(path, admin) for path in (JOBS, PERFORMER, f"{JOBS}?page=0", JOBS)]
        assert [each.status for each in answers] == [200, 404, 400, 429]
        assert [each.headers["X-RateLimit-Limit"] for each in answers] == ["3"] * 4
        assert [each.headers["X-RateLimit-Remaining"] for each in answers] == ["2", "1", "0", "0"]
        resets = [int(each.headers["X-RateLimit-Reset"]) for each in answers]
        assert resets[:3] == sorted(resets[:3])
        assert abs(resets[3] - resets[2]) <= 1  # the same moment, which is rounded to a second for each
        assert answers[-1].code == "RATE_LIMITED"
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 86400 / 3
        assert (await api.get(PERFORMER, user)).status == 404


async def test_replicas_share_the_limit(limited: Limited, admin: dict[str, str]) -> None:
    async with limited() as first, limited() as second:
        assert await statuses(first, JOBS, admin, admin) == [200, 200]
        assert await statuses(second, JOBS, admin, admin) == [200, 429]


async def test_wrong_keys_count_as_authentication_and_do_not_lock_the_owner_out(
    limited: Limited, admin: dict[str, str]
) -> None:
    wrong = {**admin, "X-API-Key": admin["X-API-Key"][::-1]}
    async with limited() as api:
        refused = [await api.get(JOBS, wrong) for _ in range(3)]
        assert [each.status for each in refused] == [401, 401, 429]
        assert refused[0].headers["X-RateLimit-Limit"] == "2"
        assert (await api.get(JOBS, admin)).status == 200


async def test_forbidden_and_anonymous_requests_are_counted(limited: Limited, user: dict[str, str]) -> None:
    async with limited() as api:
        assert await statuses(api, JOBS, user, user, user, user) == [403, 403, 403, 429]
        assert await statuses(api, JOBS, {}, {}, {}, {}) == [401, 401, 401, 429]
        assert (await api.get("/openapi.json")).status == 429  # public, by address


async def test_health_and_probes_are_outside(limited: Limited) -> None:
    async with limited() as api:
        for path in (HEALTH, "/healthz", "/readyz", "/metrics"):
            answers = [await api.get(path) for _ in range(5)]
            assert {each.status for each in answers} == {200}
            assert all("X-RateLimit-Limit" not in each.headers for each in answers)


def forwarded(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def test_forged_client_address_does_not_escape_the_limit(limited: Limited) -> None:
    async with limited() as api:
        assert await statuses(api, JOBS, *(forwarded(f"192.0.2.{n}") for n in range(4))) == [401, 401, 401, 429]


async def test_addresses_behind_a_trusted_proxy_are_limited_each_ipv6_by_network(limited: Limited) -> None:
    async with limited(trusted_proxies="127.0.0.0/8") as api:
        assert await statuses(api, JOBS, *(forwarded(f"192.0.2.{n}") for n in range(4))) == [401] * 4
        assert await statuses(api, JOBS, *(forwarded(f"2001:db8::{n}") for n in range(1, 5))) == [401, 401, 401, 429]
        assert await statuses(api, JOBS, forwarded("2001:db8:0:1::1")) == [401]
        chain = [forwarded(f"198.51.100.{n}, 203.0.113.5") for n in range(4)]  # the last hop is the proxy's word
        assert await statuses(api, JOBS, *chain) == [401, 401, 401, 429]


async def test_each_process_limits_by_itself_without_redis(limited: Limited, admin: dict[str, str]) -> None:
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}")
    async with limited(redis_url=nowhere) as api:
        assert await statuses(api, JOBS, admin, admin, admin, admin) == [200, 200, 200, 429]


@pytest.mark.parametrize("text", ["", "100", "0/60", "100/0", "1.5/60", "100/60s", "-1/60", "100/60/1"])
def test_malformed_rate_is_refused_at_the_start(text: str, settings: GatewaySettings) -> None:
    with pytest.raises(ValueError, match="requests/seconds"):
        GatewaySettings(**settings.model_dump() | {"rate_limit_general": text})
