"""Unfinished requests hold a bounded number of bytes, of one connection and of all together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.app import base_app
from safevideo_common.web.http_protocol import MAX_HEAD_BYTES, ServerLimits
from safevideo_common.web.server import LIMITS, serving
from safevideo_testkit.eventually import eventually
from safevideo_testkit.raw_http import Peer, answer, connected

GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
HEADER = b"X-Header-%d: " + b"h" * 4000 + b"\r\n"
PATIENT = ServerLimits(header_timeout=60, idle_timeout=60, write_timeout=60, max_connections=100)
Serving = Callable[[ServerLimits], AbstractAsyncContextManager[int]]


def unfinished_head(size: int) -> bytes:
    """Return the first `size` bytes of a request whose head does not end."""
    return (GET[:-2] + b"".join(HEADER % number for number in range(100)))[:size]


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
def may_respond() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def served(
    closed: list[str], may_respond: asyncio.Event, registry: CollectorRegistry, log: FilteringBoundLogger
) -> Serving:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(body=b"hello")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def wait(_request: web.Request) -> web.Response:
        await may_respond.wait()
        return web.Response(body=b"waited")

    @asynccontextmanager
    async def serve(limits: ServerLimits) -> AsyncIterator[int]:
        app = base_app(log, registry)
        app.add_routes([web.get("/hello", hello), web.post("/echo", echo), web.get("/wait", wait)])
        app[LIMITS] = replace(limits, on_closed=closed.append)
        async with serving(app, "127.0.0.1", 0, shutdown_seconds=10) as port:
            yield port
            may_respond.set()

    return serve


async def hello(connection: Peer) -> None:
    reader, writer = connection
    writer.write(GET)
    assert (await answer(reader)).body == b"hello"


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES + 1, 300_000])
async def test_server_refuses_a_head_over_its_limit_and_counts_it(
    served: Serving, registry: CollectorRegistry, size: int
) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        await hello((reader, writer))
        writer.write(unfinished_head(size))
        status, headers, body = await answer(reader)
        assert (status, headers[b"Connection"]) == (400, b"close")
        error = orjson.loads(body)["error"]
        assert (error["code"], error["requestId"].encode()) == ("VALIDATION_ERROR", headers[b"X-Request-Id"])
        writer.write_eof()
        assert await reader.read() == b""
    malformed = {"method": "other", "route": "malformed", "status": "400"}
    assert registry.get_sample_value("safevideo_http_request_duration_seconds_count", malformed) == 1


async def test_server_answers_a_head_below_its_limit(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        writer.write(unfinished_head(60_000) + b"\r\n\r\n")
        assert (await answer(reader)).body == b"hello"
        await hello((reader, writer))


@pytest.mark.parametrize("unfinished", [unfinished_head(60_000), POST + b"b" * 59_000], ids=["heads", "bodies"])
async def test_server_closes_the_oldest_unfinished_requests_when_they_hold_too_much(
    served: Serving, closed: list[str], unfinished: bytes
) -> None:
    async def all_but_eight_closed() -> bool:
        return len(closed) >= 32

    async with served(replace(PATIENT, max_unfinished_bytes=8 * 60_000)) as port, AsyncExitStack() as stack:
        idle = await stack.enter_async_context(connected(port))
        await hello(idle)
        for _ in range(40):
            _, writer = await stack.enter_async_context(connected(port))
            writer.write(unfinished)
            await writer.drain()
        last = await stack.enter_async_context(connected(port))
        await eventually(all_but_eight_closed)
        await hello(last)
        await hello(idle)
    assert set(closed) == {"buffers_full"}


async def test_finished_requests_hold_nothing(served: Serving, closed: list[str]) -> None:
    async with served(replace(PATIENT, max_unfinished_bytes=70_000)) as port, AsyncExitStack() as stack:
        for _ in range(10):
            reader, writer = await stack.enter_async_context(connected(port))
            writer.write(POST + b"b" * 60_000)
            assert len((await answer(reader)).body) == 60_000
    assert closed == []


async def test_requests_behind_one_that_is_handled_are_held_and_then_answered_in_order(
    served: Serving, may_respond: asyncio.Event, closed: list[str]
) -> None:
    async with served(replace(PATIENT, max_unfinished_bytes=1 << 20)) as port, connected(port) as (reader, writer):
        writer.write(GET.replace(b"hello", b"wait"))
        await writer.drain()
        async with connected(port) as other:
            await hello(other)  # the first request of this connection is in its handler now, or as good as
        writer.write(GET + POST + b"b" * 60_000 + GET)
        async with connected(port) as other:
            await hello(other)
        may_respond.set()
        bodies = [(await answer(reader)).body for _ in range(4)]
    assert bodies == [b"waited", b"hello", b"b" * 60_000, b"hello"]
    assert closed == []


async def test_requests_behind_one_that_is_handled_count_as_held(served: Serving, closed: list[str]) -> None:
    async def is_closed() -> bool:
        return closed == ["buffers_full"]

    async with served(replace(PATIENT, max_unfinished_bytes=100_000)) as port, connected(port) as (_, writer):
        writer.write(GET.replace(b"hello", b"wait"))
        await writer.drain()
        async with connected(port) as other:
            await hello(other)
        writer.write(GET * 10_000)
        await eventually(is_closed)


async def test_server_refuses_a_malformed_chunk_at_once(served: Serving) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        writer.write(head + b"1\r\na\r\n")
        await writer.drain()
        async with connected(port) as other:
            await hello(other)
        writer.write(b"ZZ\r\nrest" + GET)
        status, headers, body = await answer(reader)
        assert (status, headers[b"Connection"]) == (400, b"close")
        assert orjson.loads(body)["error"]["code"] == "VALIDATION_ERROR"
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET.replace(b"Host", b"Expect: whatever-you-like\r\nHost"),
        GET.replace(b"HTTP/1.1", b"HTTP/2.0"),
        GET.replace(b"HTTP/1.1", b"HTTP/0.9"),
        b"\x16\x03\x01\r\n\r\n",
    ],
)
async def test_server_answers_odd_requests_with_the_error_body_and_reports_them(
    served: Serving, registry: CollectorRegistry, request_bytes: bytes
) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        writer.write(request_bytes)
        status, _, body = await answer(reader)
        assert (status, orjson.loads(body)["error"]["code"]) == (400, "VALIDATION_ERROR")
        assert b"whatever" not in body
        assert await reader.read() == b""
    malformed = {"method": "other", "route": "malformed", "status": "400"}
    assert registry.get_sample_value("safevideo_http_request_duration_seconds_count", malformed) == 1


async def test_responses_are_not_cached_and_name_no_versions(served: Serving) -> None:
    async with served(PATIENT) as port, connected(port) as (reader, writer):
        for request_bytes in (GET, GET.replace(b"hello", b"nothing"), b"nonsense\r\n\r\n"):
            writer.write(request_bytes)
            headers = (await answer(reader)).headers
            assert headers[b"Cache-Control"] == b"no-store"
            assert headers[b"X-Content-Type-Options"] == b"nosniff"
            assert headers[b"Server"] == b"safevideo"


async def test_client_that_leaves_in_its_body_is_no_error_of_ours(
    served: Serving, registry: CollectorRegistry, logs: Path
) -> None:
    async def is_counted() -> bool:
        gone = {"method": "POST", "route": "/echo", "status": "499"}
        return registry.get_sample_value("safevideo_http_request_duration_seconds_count", gone) == 3

    async with served(PATIENT) as port:
        for _ in range(3):
            async with connected(port) as (_, writer):
                writer.write(POST + b"b")
                await writer.drain()
                async with connected(port) as other:
                    await hello(other)
        await eventually(is_counted)
    assert (logs / "error.log").read_text() == ""
