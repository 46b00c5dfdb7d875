"""What counts as a Sharegram that answers."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from safevideo_common.sharegram.health import SharegramUnavailable, probe_sharegram


async def answer(request: web.Request) -> web.Response:
    status = int(request.match_info["status"])
    return web.Response(status=status, headers={"Location": "/200/health"} if status == 302 else None)


@pytest.fixture
async def base() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{status}/health", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.mark.parametrize("end", ["", "/"])
async def test_a_200_is_well(http: ClientSession, base: str, end: str) -> None:
    await probe_sharegram(http, f"{base}/200{end}")


@pytest.mark.parametrize("status", [204, 302, 401, 404, 429, 500, 503])
async def test_anything_else_is_not_and_its_status_is_told(http: ClientSession, base: str, status: int) -> None:
    with pytest.raises(SharegramUnavailable, match=f"^answered {status}$"):
        await probe_sharegram(http, f"{base}/{status}")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://", "http://[x"])
async def test_an_address_where_nobody_is_is_not_told(http: ClientSession, address: str) -> None:
    with pytest.raises(SharegramUnavailable, match=r"^no connection \(\w+\)$"):
        await probe_sharegram(http, address)
