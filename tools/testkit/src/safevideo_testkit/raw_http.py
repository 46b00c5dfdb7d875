"""HTTP written by hand to a socket: what no client library would send, and as slowly as a test likes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from safevideo_testkit.eventually import DEADLINE_SECONDS

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class RawAnswer(NamedTuple):
    """The status, the headers by their names as sent, and a body of a stated length."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


@asynccontextmanager
async def connected(port: int, seconds: float = DEADLINE_SECONDS) -> AsyncIterator[Peer]:
    """A connection to this machine that is torn down in the end; all that is done with it has one deadline."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(seconds):
            yield reader, writer
    finally:
        writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> RawAnswer:
    """The next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")[:-2]
    headers = dict(line.split(b": ", 1) for line in lines)
    return RawAnswer(int(status.split()[1]), headers, await reader.readexactly(int(headers[b"Content-Length"])))
