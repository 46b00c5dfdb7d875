"""A proxy before a Kafka broker that refuses requests for committed offsets, as a former coordinator does."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

OFFSET_FETCH: Final = 9
NOT_COORDINATOR: Final = 16
_NO_OFFSET: Final = -1
_ERROR_OF_WHOLE_ANSWER: Final = 2
"""From this version on, an error stands once behind an empty list. Before, it stands at each partition."""
_WITH_THROTTLE: Final = 3
_HEADER: Final = struct.Struct(">hhi")


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
                api, version, correlation = _HEADER.unpack_from(request)
                if api == OFFSET_FETCH and self._refusals:
                    self._refusals -= 1
                    self.refused += 1
                    answer = struct.pack(">i", correlation) + _refusal(request, version)
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


def _refusal(request: bytes, version: int) -> bytes:
    if version >= _ERROR_OF_WHOLE_ANSWER:
        throttle = struct.pack(">i", 0) if version >= _WITH_THROTTLE else b""
        return throttle + struct.pack(">ih", 0, NOT_COORDINATOR)
    fields = _Fields(request[_HEADER.size :])
    fields.text()  # the client's id
    fields.text()  # the group
    answer = [struct.pack(">i", topics := fields.number())]
    for _ in range(topics):
        name, partitions = fields.text(), fields.number()
        answer.append(struct.pack(">h", len(name)) + name + struct.pack(">i", partitions))
        answer += [
            struct.pack(">iqhh", fields.number(), _NO_OFFSET, 0, NOT_COORDINATOR)  # no text between the last two
            for _ in range(partitions)
        ]
    return b"".join(answer)


class _Fields:
    """The fields of a request, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        found: int = struct.unpack_from(">i", self._data, self._at)[0]
        self._at += 4
        return found

    def text(self) -> bytes:
        (length,) = struct.unpack_from(">h", self._data, self._at)
        start = self._at + 2
        self._at = start + length
        return self._data[start : self._at]


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
