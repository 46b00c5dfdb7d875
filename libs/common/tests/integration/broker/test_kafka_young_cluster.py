"""A cluster that has just come up, or come back: it answers, and knows neither brokers nor a controller yet."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.types import Topic
from safevideo_testkit.broker_helpers import DAY_MS, message, publish_all

METADATA = 3
NOBODY = struct.pack(">iihii", 0, 0, -1, -1, 0)
"""No brokers, no name, no controller, no topics: in all the versions that aiokafka speaks with a Kafka of today."""


async def test_topics_are_created_once_it_has_a_controller(kafka_bootstrap_servers: str, kafka_topic: str) -> None:
    topic = f"{kafka_topic}-new"
    async with _knowing_nobody_at_first(kafka_bootstrap_servers, questions=4) as address:
        await KafkaBroker(address).create_topics([Topic(topic, 1, DAY_MS)])
    assert await publish_all(KafkaBroker(kafka_bootstrap_servers), [message(topic, "key")])


@asynccontextmanager
async def _knowing_nobody_at_first(servers: str, questions: int) -> AsyncIterator[str]:
    """Where someone answers as the broker does, but for the first `questions` about the cluster."""
    left = questions

    async def answer(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        nonlocal left
        far, to_far = await asyncio.open_connection(*servers.split(",")[0].split(":"))
        while request := await _framed(near):
            kind, _version, correlation = struct.unpack_from(">hhi", request)
            if kind == METADATA and left:
                left -= 1
                reply = struct.pack(">i", correlation) + NOBODY
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
