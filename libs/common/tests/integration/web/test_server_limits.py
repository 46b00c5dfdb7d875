"""Clients that are slow, numerous, or read no response, each on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest
from aiohttp import web

from safevideo_common.web.http_protocol import BufferedPost, ServerLimits
from safevideo_common.web.middleware import BufferedResponse
from safevideo_common.web.server import BUFFERED_POST, LIMITS, serving
from safevideo_testkit.raw_http import Peer, answer, connected

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
PATIENT = ServerLimits(header_timeout=60, idle_timeout=60, write_timeout=60, max_connections=100)
Serving = Callable[[ServerLimits], AbstractAsyncContextManager[int]]
LARGE = b"x" * (64 << 20)
"""More than the buffers of any socket take."""


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
def may_respond() -> asyncio.Event:
    """Set to let responses to POST go out."""
    return asyncio.Event()


@pytest.fixture
def inside() -> asyncio.Event:
    """Set once a POST is being handled."""
    return asyncio.Event()


@pytest.fixture(params=[False, True], ids=["aiohttp", "buffered_post"])
def served(
    request: pytest.FixtureRequest, closed: list[str], may_respond: asyncio.Event, inside: asyncio.Event
) -> Serving:
    """The server, also with a path whose plain POSTs aiohttp does not see."""

    async def never(_headers: object, _body: bytes, _remote: str | None) -> BufferedResponse:
        raise AssertionError

    async def read(request: web.Request) -> web.Response:
        inside.set()
        body = await request.read()
        await may_respond.wait()
        return web.Response(body=body)

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(body=b"hello")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=LARGE)

    @asynccontextmanager
    async def serve(limits: ServerLimits) -> AsyncIterator[int]:
        app = web.Application()
        app.add_routes([web.post("/", read), web.get("/", hello), web.get("/large", large)])
        if request.param:
            app[BUFFERED_POST] = BufferedPost("/buffered", never)
        app[LIMITS] = replace(limits, on_closed=closed.append)
        async with serving(app, "127.0.0.1", 0, shutdown_seconds=10) as port:
            yield port
            may_respond.set()

    return serve


async def hello(connection: Peer) -> None:
    reader, writer = connection
    writer.write(GET)
    status, _, body = await answer(reader)
    assert (status, body) == (200, b"hello")


async def wait_until_closed(reader: asyncio.StreamReader) -> None:
    """Return when the server has closed or aborted the connection."""
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        return


async def trickle(writer: asyncio.StreamWriter, text: bytes) -> None:
    for byte in text:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def test_server_closes_a_connection_whose_head_trickles(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, header_timeout=0.3)) as port, connected(port) as (reader, writer):
        trickling = asyncio.create_task(trickle(writer, b"GET / HTTP/1.1\r\nX-Slow: " + b"s" * 10_000))
        await wait_until_closed(reader)
        trickling.cancel()
    assert closed == ["header_timeout"]


async def test_server_closes_a_connection_that_sends_nothing(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, header_timeout=0.2)) as port, connected(port) as (reader, _):
        await wait_until_closed(reader)
    assert closed == ["header_timeout"]


async def test_server_closes_a_connection_whose_second_head_is_incomplete(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, header_timeout=0.3)) as port, connected(port) as (reader, writer):
        await hello((reader, writer))
        writer.write(GET[:-1])
        await wait_until_closed(reader)
    assert closed == ["header_timeout"]


async def test_header_timeout_does_not_close_an_idle_connection(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, header_timeout=0.2)) as port, connected(port) as idle:
        await hello(idle)
        async with connected(port) as (reader, _):  # its end shows that the timeout has passed
            await wait_until_closed(reader)
        await hello(idle)
    assert closed == ["header_timeout"]


async def test_header_timeout_does_not_bound_a_body(
    served: Serving, may_respond: asyncio.Event, closed: list[str]
) -> None:
    may_respond.set()
    async with served(replace(PATIENT, header_timeout=0.2)) as port, connected(port) as (reader, writer):
        writer.write(POST + b"ab")
        async with connected(port) as (other, _):
            await wait_until_closed(other)
        writer.write(b"cd")
        assert (await answer(reader)).status == 200
    assert closed == ["header_timeout"]


async def test_header_timeout_does_not_bound_the_rest_of_a_refused_body(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, header_timeout=0.2)) as port, connected(port) as (reader, writer):
        writer.write(POST.replace(b"/", b"/none", 1) + b"ab")
        assert (await answer(reader)).status == 404
        writer.write(b"cd")
        async with connected(port) as (other, _):
            await wait_until_closed(other)
        await hello((reader, writer))
    assert closed == ["header_timeout"]


async def test_server_closes_an_idle_connection(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, idle_timeout=0.2)) as port, connected(port) as (reader, writer):
        await hello((reader, writer))
        await wait_until_closed(reader)
    assert closed == []


async def test_server_closes_a_connection_that_leaves_a_response_unread(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, write_timeout=0.2)) as port, connected(port) as (reader, writer):
        transport = cast(asyncio.Transport, writer.transport)
        transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            while not closed:
                await asyncio.sleep(0.01)
        transport.resume_reading()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(LARGE))
    assert closed == ["write_timeout"]


async def test_new_connection_evicts_the_one_that_waits_longest(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, max_connections=2)) as port, connected(port) as first, connected(port) as second:
        await hello(first)
        await hello(second)
        async with connected(port) as third:
            await wait_until_closed(first[0])
            await hello(third)
        await hello(second)
    assert closed == ["evicted"]


async def test_new_connection_evicts_one_with_half_a_head(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, max_connections=1)) as port, connected(port) as (reader, writer):
        writer.write(GET[:-4])
        async with connected(port) as newcomer:
            await wait_until_closed(reader)
            await hello(newcomer)
    assert closed == ["evicted"]


async def test_new_connection_gets_503_while_all_others_are_busy(
    served: Serving, may_respond: asyncio.Event, inside: asyncio.Event, closed: list[str]
) -> None:
    async with served(replace(PATIENT, max_connections=1)) as port, connected(port) as (reader, writer):
        writer.write(POST + b"abcd")
        await inside.wait()
        async with connected(port) as (other, sending):
            sending.write(GET)
            head = await other.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in head
        may_respond.set()
        assert (await answer(reader)).status == 200
    assert closed == ["rejected"]
