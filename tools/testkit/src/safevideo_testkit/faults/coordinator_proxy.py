"""A proxy before a Kafka broker that refuses requests for committed offsets, as a former coordinator does."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Final

from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.commit import OffsetFetchRequest_v1, OffsetFetchResponse_v1, OffsetFetchResponse_v3

NOT_COORDINATOR: Final = 16
_NO_OFFSET: Final = -1


class CoordinatorProxy:
    """Passes everything on, and its own address as that of the broker, until it is told to refuse."""

    def __init__(self, host: str, port: int) -> None:
        self._broker: Final = (host, port)
        self._refusals = 0
        self.refused = 0
        self.own_port = 0

    def refuse_next(self, requests: int) -> None:
        """Refuse as many requests for committed offsets with `NOT_COORDINATOR`."""
        self._refusals = requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `asyncio.start_server`. One request at a time, like a broker."""
        broker_reader, broker_writer = await asyncio.open_connection(*self._broker)
        try:
            while True:
                request = await _read_frame(reader)
                body = BytesIO(request)
                api, version, correlation, _client = RequestHeader_v1.SCHEMA.decode(body)
                if api == OffsetFetchRequest_v1.API_KEY and self._refusals:
                    self._refusals -= 1
                    self.refused += 1
                    answer = struct.pack(">i", correlation) + _refusal(body, version)
                else:
                    _write_frame(broker_writer, request)
                    answer = self._with_own_address(await _read_frame(broker_reader))
                _write_frame(writer, answer)
        except (OSError, EOFError):
            return
        finally:
            broker_writer.close()
            writer.close()

    def _with_own_address(self, answer: bytes) -> bytes:
        host, port = self._broker
        address = struct.pack(">h", len(host)) + host.encode()
        return answer.replace(address + struct.pack(">i", port), address + struct.pack(">i", self.own_port))


def _refusal(body: BytesIO, version: int) -> bytes:
    """Return the answer: in version 1 with the error at each partition, later with one error behind an empty list."""
    if version > OffsetFetchRequest_v1.API_VERSION:
        later: bytes = OffsetFetchResponse_v3(0, [], NOT_COORDINATOR).encode()
        return later
    _group, topics = OffsetFetchRequest_v1.SCHEMA.decode(body)
    refused = [(name, [(each, _NO_OFFSET, "", NOT_COORDINATOR) for each in partitions]) for name, partitions in topics]
    first: bytes = OffsetFetchResponse_v1(refused).encode()
    return first


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


def _write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)


@asynccontextmanager
async def open_coordinator_proxy(bootstrap_servers: str) -> AsyncIterator[tuple[str, CoordinatorProxy]]:
    """Return the address by which a cluster of one broker is reached through a proxy, and the proxy."""
    host, _, port = bootstrap_servers.partition(":")
    proxy = CoordinatorProxy(host, int(port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    _, proxy.own_port = server.sockets[0].getsockname()
    try:
        yield f"127.0.0.1:{proxy.own_port}", proxy
    finally:
        server.close()
