"""A write to a connection that was reset: on uvloop it raises `RuntimeError`, and our clients call it an outage."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from safevideo_common.broker.kafka.client import translate_errors as translate_broker_errors
from safevideo_common.database.errors import translate_errors as translate_database_errors
from safevideo_common.errors import BrokerUnavailable, DatabaseUnavailable
from safevideo_common.tasks import reset_as_os_error


async def write_after_a_reset() -> None:
    accepted = asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await accepted.wait()
        writer.transport.abort()
        await asyncio.sleep(0)
        writer.write(b"a request")


async def write_with_a_plain_error() -> None:
    raise RuntimeError("a fault of ours")


async def as_database(write: Callable[[], Awaitable[None]]) -> None:
    with translate_database_errors():
        await write()


async def as_broker(write: Callable[[], Awaitable[None]]) -> None:
    async with translate_broker_errors("a write", 60.0):
        await write()


async def as_redis(write: Callable[[], Awaitable[None]]) -> None:
    with reset_as_os_error():
        await write()


@pytest.mark.parametrize(
    ("client", "error"),
    [(as_database, DatabaseUnavailable), (as_broker, BrokerUnavailable), (as_redis, ConnectionResetError)],
)
def test_write_to_a_connection_that_was_reset_is_an_outage(
    client: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]], error: type[Exception]
) -> None:
    async def run(write: Callable[[], Awaitable[None]]) -> None:
        await client(write)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        with pytest.raises(error):
            runner.run(run(write_after_a_reset))
        with pytest.raises(RuntimeError, match="a fault of ours"):
            runner.run(run(write_with_a_plain_error))
