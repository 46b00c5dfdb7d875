"""A proxy before a MySQL-family server that cuts connections at a COMMIT: the client cannot know what became of it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal

from sqlalchemy import make_url

from safevideo_common.tasks import cancel_and_wait

COMMIT: Final = b"\x07\x00\x00\x00\x03COMMIT"
"""As a packet: its length, its number, "query", and the text."""

_RESET_WHEN_CLOSED: Final = struct.pack("ii", 1, 0)

Cut = Literal["before", "after"]


class CommitFaultProxy:
    """Passes everything on, until it is told to cut."""

    def __init__(self, host: str, port: int) -> None:
        self._server: Final = (host, port)
        self._cuts: list[Cut] = []
        self._open: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.cuts_made = 0

    def cut_next(self, *cuts: Cut) -> None:
        """Cut the connection that commits next, `before` the server has the COMMIT or `after` it is done; and so on."""
        self._cuts += cuts

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `asyncio.start_server`."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    def reset_all(self) -> None:
        """Reset all connections, as a network does that has lost them."""
        for each in self._clients:
            each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
            each.transport.abort()

    async def close(self) -> None:
        """End all connections."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._server)
        except BaseException:  # also when the proxy is closed meanwhile
            writer.transport.abort()
            raise
        self._clients.add(writer)
        answers = asyncio.create_task(_pass_on(server_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                cut = self._cuts.pop(0) if COMMIT in data and self._cuts else None
                if cut is None:
                    server_writer.write(data)
                    continue
                self.cuts_made += 1
                if cut == "after":
                    await cancel_and_wait(answers)
                    server_writer.write(data)
                    await server_reader.read(1 << 16)  # OK: it is committed, and nobody else learns of it
                return
        except OSError:
            return
        finally:
            self._clients.discard(writer)
            for each in (server_writer, writer):
                each.transport.abort()
            await cancel_and_wait(answers)
            await asyncio.gather(_closed(server_writer), _closed(writer))


@asynccontextmanager
async def open_commit_fault_proxy(url: str) -> AsyncIterator[tuple[str, CommitFaultProxy]]:
    """The URL by which `url` is reached through a cutter, and the cutter."""
    address = make_url(url)
    cutter = CommitFaultProxy(address.host or "127.0.0.1", address.port or 3306)
    server = await asyncio.start_server(cutter.connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield address.set(host=host, port=port).render_as_string(hide_password=False), cutter
    finally:
        server.close()
        await cutter.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
    except OSError:
        return
    finally:
        writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await writer.wait_closed()
