"""Senders who are slow, many, or do not listen: each on a real socket, none of them for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from safevideo_common.web.bounds import BOUNDS, ServerBounds
from safevideo_common.web.server import serving
from safevideo_testkit.raw_http import Peer, answer, connected

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
PATIENT = ServerBounds(head_seconds=60, idle_seconds=60, unread_seconds=60, max_connections=100)
Serving = Callable[[ServerBounds], AbstractAsyncContextManager[int]]
LARGE = b"x" * (64 << 20)
"""More than any socket's buffers take."""


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
def door() -> asyncio.Event:
    """Answers to POST go out once it is set."""
    return asyncio.Event()


@pytest.fixture
def inside() -> asyncio.Event:
    """Set once a POST is being handled."""
    return asyncio.Event()


@pytest.fixture
def served(closed: list[str], door: asyncio.Event, inside: asyncio.Event) -> Serving:
    async def read(request: web.Request) -> web.Response:
        inside.set()
        body = await request.read()
        await door.wait()
        return web.Response(body=body)

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(body=b"hello")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=LARGE)

    @asynccontextmanager
    async def serve(bounds: ServerBounds) -> AsyncIterator[int]:
        app = web.Application()
        app.add_routes([web.post("/", read), web.get("/", hello), web.get("/large", large)])
        app[BOUNDS] = replace(bounds, closed=closed.append)
        async with serving(app, "127.0.0.1", 0, shutdown_seconds=10) as port:
            yield port
            door.set()

    return serve


async def hello(connection: Peer) -> None:
    reader, writer = connection
    writer.write(GET)
    status, _, body = await answer(reader)
    assert (status, body) == (200, b"hello")


async def ended(reader: asyncio.StreamReader) -> None:
    """Return when the other side has closed, in whichever way."""
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        return


async def trickle(writer: asyncio.StreamWriter, text: bytes) -> None:
    for byte in text:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def test_a_head_that_trickles_is_given_up_however_steadily_it_does(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, head_seconds=0.3)) as port, connected(port) as (reader, writer):
        trickling = asyncio.create_task(trickle(writer, b"GET / HTTP/1.1\r\nX-Slow: " + b"s" * 10_000))
        await ended(reader)
        trickling.cancel()
    assert closed == ["slow_head"]


async def test_a_connection_that_says_nothing_is_given_up(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, head_seconds=0.2)) as port, connected(port) as (reader, _):
        await ended(reader)
    assert closed == ["slow_head"]


async def test_the_head_of_a_later_request_is_no_more_waited_for(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, head_seconds=0.3)) as port, connected(port) as (reader, writer):
        await hello((reader, writer))
        writer.write(GET[:-1])
        await ended(reader)
    assert closed == ["slow_head"]


async def test_a_connection_between_two_requests_is_not_a_slow_head(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, head_seconds=0.2)) as port, connected(port) as quiet:
        await hello(quiet)
        async with connected(port) as (reader, _):  # its end says that more than the patience has passed
            await ended(reader)
        await hello(quiet)
    assert closed == ["slow_head"]


async def test_a_body_is_no_head(served: Serving, door: asyncio.Event, closed: list[str]) -> None:
    door.set()
    async with served(replace(PATIENT, head_seconds=0.2)) as port, connected(port) as (reader, writer):
        writer.write(POST + b"ab")
        async with connected(port) as (other, _):
            await ended(other)
        writer.write(b"cd")
        assert (await answer(reader)).status == 200
    assert closed == ["slow_head"]


async def test_an_answer_that_nobody_reads_is_given_up(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, unread_seconds=0.2)) as port, connected(port) as (reader, writer):
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            while not closed:
                await asyncio.sleep(0.01)
        transport.resume_reading()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(LARGE))
    assert closed == ["unread"]


async def test_when_it_is_crowded_the_longest_idle_gives_way(served: Serving, closed: list[str]) -> None:
    bounds = replace(PATIENT, max_connections=2)
    async with served(bounds) as port, connected(port) as first, connected(port) as second:
        await hello(first)
        await hello(second)
        async with connected(port) as third:
            await ended(first[0])
            await hello(third)
        await hello(second)
    assert closed == ["crowded_out"]


async def test_half_a_head_does_not_save_a_connection_when_it_is_crowded(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, max_connections=1)) as port, connected(port) as (reader, writer):
        writer.write(GET[:-4])
        async with connected(port) as newcomer:
            await ended(reader)
            await hello(newcomer)
    assert closed == ["crowded_out"]


async def test_when_all_are_busy_a_newcomer_is_turned_away_at_once_and_told_so(
    served: Serving, door: asyncio.Event, inside: asyncio.Event, closed: list[str]
) -> None:
    async with served(replace(PATIENT, max_connections=1)) as port, connected(port) as (reader, writer):
        writer.write(POST + b"abcd")
        await inside.wait()
        async with connected(port) as (other, asking):
            asking.write(GET)
            head = await other.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in head
        door.set()
        assert (await answer(reader)).status == 200
    assert closed == ["turned_away"]
