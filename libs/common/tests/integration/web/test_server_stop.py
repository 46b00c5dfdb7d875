"""A stop finishes all requests that were sent before it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.app import base_app
from safevideo_common.web.drain import DRAIN
from safevideo_common.web.server import serving
from safevideo_testkit.eventually import DEADLINE_SECONDS

HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


@pytest.fixture
def reached() -> asyncio.Event:
    """Set once a request is being handled."""
    return asyncio.Event()


@pytest.fixture
def app(log: FilteringBoundLogger, reached: asyncio.Event) -> web.Application:
    async def echo(request: web.Request) -> web.Response:
        reached.set()
        return web.Response(body=await request.read())

    app = base_app(log, CollectorRegistry())
    app.router.add_post("/echo", echo)
    return app


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack, asyncio.timeout(DEADLINE_SECONDS):
        yield stack


async def stop_begun(app: web.Application) -> None:
    while not app[DRAIN].started:
        await asyncio.sleep(0)


async def test_stop_waits_for_a_body_that_is_on_its_way(
    app: web.Application, reached: asyncio.Event, stack: AsyncExitStack
) -> None:
    port = await stack.enter_async_context(serving(app, "127.0.0.1", 0, shutdown_seconds=10))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"ab")
    await reached.wait()
    stopping = asyncio.create_task(stack.aclose())
    await stop_begun(app)
    writer.write(b"cd")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in head
    assert await reader.read() == b"abcd"
    await stopping
    writer.close()


async def test_stop_answers_the_first_request_of_a_connection(app: web.Application, stack: AsyncExitStack) -> None:
    port = await stack.enter_async_context(serving(app, "127.0.0.1", 0, shutdown_seconds=10))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with ClientSession() as session, session.post(f"http://127.0.0.1:{port}/echo", data=b"x") as answer:
        assert answer.status == 200  # and by now the other connection is accepted, too
    stopping = asyncio.create_task(stack.aclose())
    await stop_begun(app)
    writer.write(HEAD + b"abcd")
    assert (await reader.read()).endswith(b"\r\n\r\nabcd")
    await stopping
    writer.close()


async def test_stop_waits_for_a_body_no_longer_than_shutdown_seconds(
    app: web.Application, reached: asyncio.Event, stack: AsyncExitStack
) -> None:
    port = await stack.enter_async_context(serving(app, "127.0.0.1", 0, shutdown_seconds=0.2))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"ab")
    await reached.wait()
    await stack.aclose()
    assert await reader.read() == b""
    writer.close()


async def test_draining_server_answers_but_is_not_ready(app: web.Application, stack: AsyncExitStack) -> None:
    port = await stack.enter_async_context(serving(app, "127.0.0.1", 0, shutdown_seconds=1))
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/readyz") as answer:
            assert answer.status == 200
        app[DRAIN].start()
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {"status": "failing", "failed": {"process": "This process is stopping."}}
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        async with session.post("/echo", data=b"x") as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
