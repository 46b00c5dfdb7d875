"""A pool of connections to Sharegram is closed when its time is over, whether it was idle or in use then."""

import asyncio
import gc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from safevideo_common.sharegram.transport import HttpTransport, WireRequest
from safevideo_common.tls import TlsFiles, client_context


class SlowServer:
    """A server whose `/slow` answers once it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.url = URL()

    async def respond(self, request: web.Request) -> web.Response:
        if request.path == "/slow":
            self.asked.set()
            await self.answers.wait()
        return web.Response(text="{}")

    def request(self, path: str = "/", *, needs_new_connection: bool = False) -> WireRequest:
        return WireRequest("GET", self.url.with_path(path), {}, b"", 1000, needs_new_connection)


@pytest.fixture
async def server() -> AsyncIterator[SlowServer]:
    slow = SlowServer()
    app = web.Application()
    app.router.add_get("/{path:.*}", slow.respond)
    async with TestServer(app) as running:
        slow.url = running.make_url("/")
        yield slow


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """A transport whose pools take one request each: their time is over at once."""
    async with HttpTransport.open(client_context("SHAREGRAM_CA_FILE", TlsFiles()), pool_seconds=0) as opened:
        yield opened


def open_connectors() -> int:
    return sum(isinstance(each, aiohttp.TCPConnector) and not each.closed for each in gc.get_objects())


async def test_pool_whose_time_ends_while_it_is_idle_is_closed(server: SlowServer, transport: HttpTransport) -> None:
    before = open_connectors()
    for _ in range(5):
        assert (await transport.send(server.request())).status == 200
    assert open_connectors() - before == 1


async def test_pool_whose_time_ends_during_a_request_is_closed_after_it(
    server: SlowServer, transport: HttpTransport
) -> None:
    before = open_connectors()
    slow = asyncio.create_task(transport.send(server.request("/slow")))
    await server.asked.wait()
    assert (await transport.send(server.request())).status == 200
    assert open_connectors() - before == 2
    server.answers.set()
    assert (await slow).status == 200
    assert open_connectors() - before == 1


async def test_connection_of_a_single_request_is_closed_after_it(server: SlowServer, transport: HttpTransport) -> None:
    before = open_connectors()
    assert (await transport.send(server.request(needs_new_connection=True))).status == 200
    assert open_connectors() == before
