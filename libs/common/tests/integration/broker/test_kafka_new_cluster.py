"""A Kafka cluster that has just started: it answers, and knows neither brokers nor a controller yet."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.types import Topic
from safevideo_testkit.broker_helpers import DAY_MS, message, publish_in_order

METADATA = 3
NO_CONTROLLER = struct.pack(">iihii", 0, 0, -1, -1, 0)
"""No brokers, no name, no controller, no topics: in all the versions that aiokafka speaks with a Kafka of today."""


async def test_create_topics_waits_for_a_controller(kafka_bootstrap_servers: str, kafka_topic: str) -> None:
    topic = f"{kafka_topic}-new"
    async with _without_controller_at_first(kafka_bootstrap_servers, requests=4) as address:
        await KafkaBroker(address).create_topics([Topic(topic, 1, DAY_MS)])
    assert await publish_in_order(KafkaBroker(kafka_bootstrap_servers), [message(topic, "key")])


@asynccontextmanager
async def _without_controller_at_first(servers: str, requests: int) -> AsyncIterator[str]:
    """The address of a proxy to the broker. It answers the first `requests` for metadata without a controller."""
    left = requests

    async def answer(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        nonlocal left
        far, to_far = await asyncio.open_connection(*servers.split(",")[0].split(":"))
        while request := await _framed(near):
            kind, _version, correlation = struct.unpack_from(">hhi", request)
            if kind == METADATA and left:
                left -= 1
                reply = struct.pack(">i", correlation) + NO_CONTROLLER
            else:
                to_far.write(struct.pack(">i", len(request)) + request)
                reply = await _framed(far)
            to_near.write(struct.pack(">i", len(reply)) + reply)
        for writer in (to_far, to_near):
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    assert not left


async def _framed(reader: asyncio.StreamReader) -> bytes:
    """The next request or reply; empty at the end."""
    try:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return b""
