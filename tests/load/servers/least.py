"""The limit of HTTP in Python: waits for a whole request, answers, and looks at nothing but where it ends."""

import asyncio
import sys
from typing import Final, cast

import uvloop
from typing_extensions import override

BODY: Final = b'{"success":true}'
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Least(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        if _is_whole(self._received) and self._transport is not None:
            self._received = b""
            self._transport.write(ANSWER)


def _is_whole(request: bytes) -> bool:
    head, separator, body = request.partition(b"\r\n\r\n")
    _, _, length = head.partition(b"\r\nContent-Length: ")
    return bool(separator) and len(body) >= int(length.partition(b"\r")[0])


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Least, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
