"""What comes in one piece is answered by the short way, within the same bounds, and looks the same from outside."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.errors import ServiceUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.app import add_hot_post, base_app
from safevideo_common.web.bounds import BOUNDS, ServerBounds
from safevideo_common.web.drain import DRAIN
from safevideo_common.web.server import serving
from safevideo_common.web.whole import WholeAnswer, WholePost, WholeRequest
from safevideo_common.web.whole_connection import WholeConnection
from safevideo_testkit.eventually import eventually
from safevideo_testkit.raw_http import Peer, answer, connected

HEAD = b"POST /hot HTTP/1.1\r\nHost: x\r\nX-Request-Id: me\r\nContent-Length: 4\r\n"
PATIENT = ServerBounds(head_seconds=60, idle_seconds=60, unread_seconds=60, max_connections=100)


def post(body: bytes, *lines: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@pytest.fixture
def door() -> asyncio.Event:
    """Answers to `wait` go out once it is set."""
    return asyncio.Event()


@pytest.fixture
def inside() -> asyncio.Event:
    """Set once a `wait` is being handled."""
    return asyncio.Event()


@pytest.fixture
def app(log: FilteringBoundLogger, door: asyncio.Event, inside: asyncio.Event) -> web.Application:
    """It says which way the request went: `whole` or `apart`."""

    async def whole(request: WholeRequest) -> bytes:
        if request.body == b"fail":
            raise ServiceUnavailable("Later.", retry_after=7)
        if request.body == b"boom":
            raise RuntimeError("no one may read this")
        if request.body == b"wait":
            inside.set()
            await door.wait()
        return b'"whole"'

    async def apart(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b'"apart"', content_type="application/json")

    app = base_app(log, CollectorRegistry())
    add_hot_post(app, "/hot", apart, whole)
    return app


Serving = Callable[[ServerBounds], AbstractAsyncContextManager[int]]


@pytest.fixture
def served(app: web.Application, door: asyncio.Event) -> Serving:
    @asynccontextmanager
    async def serve(bounds: ServerBounds) -> AsyncIterator[int]:
        app[BOUNDS] = bounds
        async with serving(app, "127.0.0.1", 0, shutdown_seconds=10) as port:
            yield port
            door.set()

    return serve


async def said(peer: Peer, request: bytes) -> bytes:
    reader, writer = peer
    writer.write(request)
    return (await answer(reader)).body


async def test_a_request_in_one_piece_goes_the_short_way_again_and_again(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        await taken_whole(peer)
        assert [await said(peer, post(b"good")) for _ in range(3)] == [b'"whole"'] * 3


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"good").replace(b"/hot", b"/hot?a=1"),
        post(b"good", b"Connection: close"),
        post(b"good").replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(b"good", b"Upgrade: websocket", b"Connection: Upgrade"),
    ],
)
async def test_what_is_not_plain_goes_the_long_way(served: Serving, request_bytes: bytes) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        assert await said(peer, request_bytes) == b'"apart"'


async def test_a_body_that_comes_later_goes_the_long_way_and_the_next_request_the_short_one(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        peer[1].write(post(b""))
        async with connected(port) as other:  # once it is answered, the head is seen
            await said(other, post(b"good"))
        assert await said(peer, b"late") == b'"apart"'
        await taken_whole(peer)


async def taken_whole(peer: Peer) -> None:
    async def short() -> bool:
        return await said(peer, post(b"good")) == b'"whole"'

    await eventually(short)


async def test_both_ways_look_the_same_from_outside(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        reader, writer = peer
        await taken_whole(peer)
        writer.write(post(b"good"))
        short = await answer(reader)
        writer.write(post(b"good").replace(b"/hot", b"/hot?"))
        long = await answer(reader)
        assert (short[2], long[2]) == (b'"whole"', b'"apart"')
        assert short[0] == long[0]
        assert {**short[1], b"Date": b""} == {**long[1], b"Date": b""}


@pytest.mark.parametrize(
    ("body", "status", "code", "retry_after"),
    [(b"fail", 503, b"SERVICE_UNAVAILABLE", b"7"), (b"boom", 500, b"INTERNAL_ERROR", None)],
)
async def test_a_failure_is_rendered_and_the_connection_goes_on(
    served: Serving, body: bytes, status: int, code: bytes, retry_after: bytes | None
) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        reader, writer = peer
        await taken_whole(peer)
        writer.write(post(body))
        got, headers, rendered = await answer(reader)
        assert (got, headers.get(b"Retry-After"), headers[b"X-Request-Id"]) == (status, retry_after, b"me")
        assert code in rendered
        assert b"no one may read this" not in rendered
        assert await said(peer, post(b"good")) == b'"whole"'


async def test_who_does_not_wait_for_answers_gets_them_in_order(
    served: Serving, inside: asyncio.Event, door: asyncio.Event
) -> None:
    async with served(PATIENT) as port, connected(port) as peer:
        reader, writer = peer
        await taken_whole(peer)
        writer.write(post(b"wait"))
        await inside.wait()
        for _ in range(40):  # more than the parser queues before it stops reading
            writer.write(post(b"fail") + post(b"good").replace(b"/hot", b"/none"))
        door.set()
        assert (await answer(reader))[2] == b'"whole"'
        statuses = [(await answer(reader))[0] for _ in range(80)]
        assert set(statuses[1::2]) == {404}
        assert set(statuses[::2]) <= {200, 503}  # 503 by the short way; the long way's handler knows no failure


async def test_a_stop_hears_out_who_is_being_answered(
    app: web.Application, inside: asyncio.Event, door: asyncio.Event
) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        port = await stack.enter_async_context(serving(app, "127.0.0.1", 0, shutdown_seconds=10))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await taken_whole((reader, writer))
        writer.write(post(b"wait"))
        await inside.wait()
        stopping = asyncio.create_task(stack.aclose())
        while not app[DRAIN].begun:
            await asyncio.sleep(0)
        door.set()
        _, headers, body = await answer(reader)
        assert (headers[b"Connection"], body) == (b"close", b'"whole"')
        assert await reader.read() == b""
        await stopping
        writer.close()


async def test_a_stop_ends_who_takes_too_long(app: web.Application, inside: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        async with serving(app, "127.0.0.1", 0, shutdown_seconds=0.2) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await taken_whole((reader, writer))
            writer.write(post(b"wait"))
            await inside.wait()
        assert await reader.read() == b""
        writer.close()


async def test_the_end_of_idleness_does_not_cut_off_an_answer(
    served: Serving, inside: asyncio.Event, door: asyncio.Event
) -> None:
    async with served(replace(PATIENT, idle_seconds=0.2)) as port, connected(port) as peer:
        reader, writer = peer
        await taken_whole(peer)
        writer.write(post(b"wait"))
        await inside.wait()
        async with connected(port) as other:  # its end says that more than the time has passed
            await said(other, post(b"good"))
            assert await other[0].read() == b""
        door.set()
        assert (await answer(reader))[2] == b'"whole"'
        assert await reader.read() == b""


async def test_when_it_is_crowded_whoever_is_being_answered_does_not_give_way(
    served: Serving, inside: asyncio.Event, door: asyncio.Event
) -> None:
    async with served(replace(PATIENT, max_connections=1)) as port, connected(port) as peer:
        reader, writer = peer
        await taken_whole(peer)
        writer.write(post(b"wait"))
        await inside.wait()
        async with connected(port) as newcomer:
            newcomer[1].write(post(b"good"))
            status, headers, _ = await answer(newcomer[0])
            assert (status, headers[b"Connection"]) == (503, b"close")
        door.set()
        assert (await answer(reader))[2] == b'"whole"'


async def test_a_second_that_comes_before_the_first_is_begun_does_not_overtake_it() -> None:
    heard: list[tuple[str, bytes]] = []

    async def whole(_headers: object, body: bytes, _remote: str | None) -> WholeAnswer:
        heard.append(("whole", body))
        return WholeAnswer(b"", is_last=False)

    async def apart(request: web.BaseRequest) -> web.Response:
        heard.append(("apart", await request.read()))
        return web.Response()

    async def at_rest_after(requests: int) -> bool:
        return len(heard) == requests and connection.is_idle

    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    connection = WholeConnection(web.Server(apart), PATIENT, WholePost("/hot", whole), loop)
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.data_received(post(b"one1"))  # it has not come to rest yet
    connection.data_received(post(b"two2"))
    await eventually(partial(at_rest_after, 2))
    connection.data_received(post(b"last"))
    await eventually(partial(at_rest_after, 3))
    assert heard == [("apart", b"one1"), ("apart", b"two2"), ("whole", b"last")]
    await connection.shutdown(1)
    theirs.close()
