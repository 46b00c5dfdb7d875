"""A plain POST is answered without aiohttp, within the same limits, and the client sees no difference."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.errors import ServiceUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.app import add_buffered_post, base_app
from safevideo_common.web.drain import DRAIN
from safevideo_common.web.http_protocol import BufferedPost, ServerLimits
from safevideo_common.web.middleware import BufferedRequest, BufferedResponse
from safevideo_common.web.server import LIMITS, serving
from safevideo_testkit.raw_http import Peer, answer, connected

HEAD = b"POST /hot HTTP/1.1\r\nHost: x\r\nX-Request-Id: me\r\nContent-Length: 4\r\n"
PATIENT = ServerLimits(header_timeout=60, idle_timeout=60, write_timeout=60, max_connections=100)
LARGE = b"x" * (64 << 20)
"""More than the buffers of any socket take."""


def post(body: bytes, *lines: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@pytest.fixture
def may_respond() -> asyncio.Event:
    """Set to let responses to `wait` go out."""
    return asyncio.Event()


@pytest.fixture
def inside() -> asyncio.Event:
    """Set once a `wait` is being handled."""
    return asyncio.Event()


@pytest.fixture
def app(log: FilteringBoundLogger, may_respond: asyncio.Event, inside: asyncio.Event) -> web.Application:
    """An app whose responses name the handler: `buffered` or `standard`."""

    async def buffered(request: BufferedRequest) -> bytes:
        if request.body == b"fail":
            raise ServiceUnavailable("Later.", retry_after=7)
        if request.body == b"boom":
            raise RuntimeError("no one may read this")
        if request.body == b"wait":
            inside.set()
            await may_respond.wait()
        return LARGE if request.body == b"much" else b'"buffered"'

    async def standard(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b'"standard"', content_type="application/json")

    app = base_app(log, CollectorRegistry())
    add_buffered_post(app, "/hot", standard, buffered)
    return app


Serving = Callable[[ServerLimits], AbstractAsyncContextManager[int]]


@pytest.fixture
def served(app: web.Application, may_respond: asyncio.Event) -> Serving:
    @asynccontextmanager
    async def serve(limits: ServerLimits) -> AsyncIterator[int]:
        app[LIMITS] = limits
        async with serving(app, "127.0.0.1", 0, shutdown_seconds=10) as port:
            yield port
            may_respond.set()

    return serve


async def respond(peer: Peer, request: bytes) -> bytes:
    reader, writer = peer
    writer.write(request)
    return (await answer(reader)).body


async def test_connection_answers_each_plain_post_itself(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        assert [await respond(peer, post(b"good")) for _ in range(3)] == [b'"buffered"'] * 3


async def test_connection_answers_a_plain_post_that_is_to_be_the_last(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        writer.write(post(b"good", b"Connection: close"))
        response = await answer(reader)
        assert (response.body, response.headers[b"Connection"]) == (b'"buffered"', b"close")
        assert await reader.read() == b""
        async with connected(port) as other:
            assert await respond(other, post(b"good")) == b'"buffered"'


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"good").replace(b"/hot", b"/hot?a=1"),
        post(b"good", b"Connection: close, TE"),
        post(b"good").replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(b"good", b"Upgrade: websocket", b"Connection: Upgrade"),
        post(b"good", b"X-Twice: 1", b"X-Twice: 2"),
        post(b"4\r\ngood\r\n0\r\n\r\n", b"Transfer-Encoding: chunked").replace(b"Content-Length: 4\r\n", b""),
        post(b"good" * 10_000).replace(b"Length: 4", b"Length: 40000"),
    ],
)
async def test_aiohttp_answers_what_is_no_plain_post(served: Serving, request_bytes: bytes) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        assert await respond(peer, request_bytes) == b'"standard"'


async def test_aiohttp_answers_from_the_first_body_on_that_comes_later(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        assert await respond(peer, post(b"good")) == b'"buffered"'
        peer[1].write(post(b""))
        async with connected(port) as other:  # once this is answered, the head is read
            await respond(other, post(b"good"))
        assert await respond(peer, b"late") == b'"standard"'
        assert await respond(peer, post(b"good")) == b'"standard"'


async def test_aiohttp_refuses_a_malformed_request_after_a_plain_post(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        await respond(peer, post(b"good"))
        assert b'"VALIDATION_ERROR"' in await respond(peer, post(b"good").replace(b"Length: 4", b"Length: four"))


def test_buffered_post_parses_no_post_that_is_cut_or_followed_by_another() -> None:
    async def never(_headers: object, _body: bytes, _remote: str | None) -> BufferedResponse:
        raise AssertionError

    buffered, request = BufferedPost("/hot", never), post(b"good")
    assert buffered.parse(post(b"good", b"Proxy-Connection: close")) is None  # to the parser it is the last one
    for length in range(len(request)):
        assert buffered.parse(request[:length]) is None
        assert length == 0 or buffered.parse(request + request[:length]) is None
        headers, body = buffered.parse(request) or ({}, b"")
        assert (dict(headers), body) == ({"Host": "x", "X-Request-Id": "me", "Content-Length": "4"}, b"good")


async def test_both_responses_look_the_same(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        writer.write(post(b"good"))
        buffered = await answer(reader)
        writer.write(post(b"good").replace(b"/hot", b"/hot?"))
        standard = await answer(reader)
        assert (buffered.body, standard.body) == (b'"buffered"', b'"standard"')
        assert buffered.status == standard.status
        assert {**buffered.headers, b"Date": b""} == {**standard.headers, b"Date": b""}


@pytest.mark.parametrize(
    ("body", "status", "code", "retry_after"),
    [(b"fail", 503, b"SERVICE_UNAVAILABLE", b"7"), (b"boom", 500, b"INTERNAL_ERROR", None)],
)
async def test_connection_renders_a_failure_and_goes_on(
    served: Serving, body: bytes, status: int, code: bytes, retry_after: bytes | None
) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        reader, writer = peer
        writer.write(post(body))
        got, headers, rendered = await answer(reader)
        assert (got, headers.get(b"Retry-After"), headers[b"X-Request-Id"]) == (status, retry_after, b"me")
        assert code in rendered
        assert b"no one may read this" not in rendered
        assert await respond(peer, post(b"good")) == b'"buffered"'


async def test_connection_answers_pipelined_requests_in_order(
    served: Serving, inside: asyncio.Event, may_respond: asyncio.Event
) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        writer.write(post(b"wait"))
        await inside.wait()
        for _ in range(40):  # more than the parser queues before it stops reading
            writer.write(post(b"fail") + post(b"good").replace(b"/hot", b"/none"))
        may_respond.set()
        assert (await answer(reader)).body == b'"buffered"'
        statuses = [(await answer(reader)).status for _ in range(80)]
        assert set(statuses[1::2]) == {404}
        assert set(statuses[::2]) <= {200, 503}  # aiohttp's handler knows no failure


async def test_connection_answers_a_second_post_after_the_first(
    served: Serving, inside: asyncio.Event, may_respond: asyncio.Event
) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        writer.write(post(b"wait"))
        await inside.wait()
        writer.write(post(b"fail"))
        async with connected(port) as other:  # once this is answered, the second is read
            await respond(other, post(b"good"))
        may_respond.set()
        assert [(await answer(reader)).status for _ in range(2)] == [200, 503]


async def test_stop_waits_for_a_plain_post(
    app: web.Application, inside: asyncio.Event, may_respond: asyncio.Event
) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        port = await stack.enter_async_context(serving(app, "127.0.0.1", 0, shutdown_seconds=10))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"wait"))
        await inside.wait()
        stopping = asyncio.create_task(stack.aclose())
        while not app[DRAIN].started:
            await asyncio.sleep(0)
        may_respond.set()
        _, headers, body = await answer(reader)
        assert (headers[b"Connection"], body) == (b"close", b'"buffered"')
        assert await reader.read() == b""
        await stopping
        writer.close()


async def test_stop_ends_a_plain_post_that_takes_too_long(app: web.Application, inside: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        async with serving(app, "127.0.0.1", 0, shutdown_seconds=0.2) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(b"wait"))
            await inside.wait()
        assert await reader.read() == b""
        writer.close()


async def test_idle_timeout_does_not_cut_off_a_response(
    served: Serving, inside: asyncio.Event, may_respond: asyncio.Event
) -> None:
    async with served(replace(PATIENT, idle_timeout=0.2)) as port, connected(port) as (reader, writer):
        writer.write(post(b"wait"))
        await inside.wait()
        async with connected(port) as other:  # its end shows that the timeout has passed
            await respond(other, post(b"good"))
            assert await other[0].read() == b""
        may_respond.set()
        assert (await answer(reader)).body == b'"buffered"'
        assert await reader.read() == b""


async def test_write_timeout_closes_a_connection_that_leaves_a_response_unread(served: Serving) -> None:
    closed: asyncio.Queue[str] = asyncio.Queue()
    limits = replace(PATIENT, write_timeout=0.2, on_closed=closed.put_nowait)
    async with served(limits) as port, connected(port) as (reader, writer):
        transport = cast(asyncio.Transport, writer.transport)
        transport.pause_reading()
        writer.write(post(b"much"))
        assert await closed.get() == "write_timeout"
        transport.resume_reading()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(LARGE))


async def test_new_connection_evicts_no_connection_whose_post_is_handled(
    served: Serving, inside: asyncio.Event, may_respond: asyncio.Event
) -> None:
    async with served(replace(PATIENT, max_connections=1)) as port, connected(port) as (reader, writer):
        writer.write(post(b"wait"))
        await inside.wait()
        async with connected(port) as newcomer:
            newcomer[1].write(post(b"good"))
            status, headers, _ = await answer(newcomer[0])
            assert (status, headers[b"Connection"]) == (503, b"close")
        may_respond.set()
        assert (await answer(reader)).body == b'"buffered"'
