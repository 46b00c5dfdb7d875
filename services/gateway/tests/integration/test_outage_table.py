"""The table of docs/outages.md is what the gateway does: every route while each dependency is down, and all of them."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway.app import ENDPOINTS, build_app
from gateway.http.planned import PLANNED
from gateway.settings import GatewaySettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import running

PAGE: Final = Path(__file__).parents[4] / "docs" / "outages.md"
COLUMNS: Final = ("redis", "database", "kafka", "sharegram", "all")
AS_USUAL: Final = "as usual"
ELSEWHERE: Final = (" /api/v1/performers/sync", " /auth/sso/", "/admin/flags", "/kyc/submit", "/kyc/{id}/documents")
"""Sign-in, which needs a provider; flags, whose last value a process may remember; what only performers may call."""
HEALTH: Final = "GET /api/integration/health"
MYSQL: Final = pytest.mark.mysql

Call = Callable[[], Awaitable[dict[str, int]]]


def table() -> Mapping[str, Mapping[str, str]]:
    """The cells by route, such as `GET /docs`, and column."""
    rows = re.findall(r"^\| `((?:GET|POST|PUT|DELETE) [^`]+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    return {route: dict(zip(COLUMNS, map(str.strip, cells.split("|")), strict=True)) for route, cells in rows}


def routes(app: web.Application) -> list[str]:
    found = {(each.method, each.resource.canonical) for each in app.router.routes() if each.resource}
    return sorted(f"{method} {path}" for method, path in found - {*PLANNED} if method != "HEAD")


@pytest.fixture
def calling(
    log: FilteringBoundLogger,
    key: Callable[[Role], Awaitable[dict[str, str]]],
    store: Callable[..., Awaitable[int]],
) -> Callable[..., object]:
    """Runs a gateway and gives a function that calls every route once, with its example as the body."""
    numbers = count()

    @asynccontextmanager
    async def calling(settings: GatewaySettings, broker: Broker) -> AsyncIterator[Call]:
        app, headers, performer = (
            build_app(settings, broker, log),
            await key(Role.ADMIN),
            await store(f"sg_{next(numbers)}"),
        )
        async with running(app, settings) as api:

            async def call() -> dict[str, int]:
                bodies = {f"{each.method} {each.path}": each.body_example for each in app[ENDPOINTS] if each.body}
                statuses = {}
                for route in routes(app):
                    method, path = route.split(" ")
                    row_id = performer if "performers" in path else 999999
                    filled = path.replace("{id}", str(row_id)).replace("{name}", "kyc").replace("{document}", "1")
                    async with api.session.request(
                        method,
                        api.base_url + filled,
                        headers=headers,
                        json=bodies.get(route),
                        allow_redirects=False,
                    ) as answer:
                        await answer.read()
                        statuses[route] = answer.status
                return statuses

            yield call

    return calling


@pytest.mark.parametrize(
    ("column", "database_kind"),
    [
        ("redis", "sqlite"),
        ("kafka", "sqlite"),
        ("sharegram", "sqlite"),
        pytest.param("database", "mysql", marks=MYSQL),
        pytest.param("all", "mysql", marks=MYSQL),
    ],
    indirect=["database_kind"],
)
async def test_every_route_answers_as_the_table_says(
    column: str,
    request: pytest.FixtureRequest,
    calling: Callable[..., object],
    settings: GatewaySettings,
    embedded_broker: Broker,
) -> None:
    async with calling(settings, embedded_broker) as call:  # type: ignore[attr-defined]
        usual: dict[str, int] = await call()
        await until_health(usual, 200, call)
    assert sorted(table()) == sorted(usual)
    cells = {route: row[column] for route, row in table().items() if not any(part in route for part in ELSEWHERE)}
    expected = {route: usual[route] if cell.startswith(AS_USUAL) else int(cell[:3]) for route, cell in cells.items()}
    broken: dict[str, object] = {"redis_timeout_seconds": 0.25}
    if column in {"redis", "all"}:
        broken["redis_url"] = SecretStr(f"redis://127.0.0.1:{free_port()}")
    if column in {"sharegram", "all"}:
        broken["sharegram_api_url"] = f"http://127.0.0.1:{free_port()}/v1"
    async with AsyncExitStack() as stack:
        broker = embedded_broker
        if column in {"kafka", "all"}:
            broker = await stack.enter_async_context(open_broker(f"127.0.0.1:{free_port()}", None))
        call = await stack.enter_async_context(calling(settings.model_copy(update=broken), broker))  # type: ignore[arg-type]
        if column in {"database", "all"}:  # the gateway does not start without it
            stack.enter_context(request.getfixturevalue("mysql_server").killed())
        statuses = await call()
        await until_health(statuses, expected[HEALTH], call)
    different = {route: (statuses[route], status) for route, status in expected.items() if statuses[route] != status}
    assert different == {}


async def until_health(found: dict[str, int], status: int, call: Call) -> None:
    """Ask again for health alone: on a busy machine a check of a healthy dependency may take too long.

    A repeated decision is answered otherwise than the first.
    """

    async def is_status() -> bool:
        found[HEALTH] = (await call())[HEALTH]
        return found[HEALTH] == status

    if found[HEALTH] != status:
        await eventually(is_status)
