"""The impatient forger: `python forger.py PORT RATE SECONDS`. It connects, sends one forged webhook, and is gone.

No answer is waited for, so holding answers back does not slow it down: what is left is the price of a connection.
Prints how many it sent a second.
"""

import asyncio
import sys
from typing import Final

from payloads import Keys, bodies

TICK_SECONDS: Final = 0.01
FORGED: Final = "sha256=" + "0" * 64


def request() -> bytes:
    """One, which differs from a good one by its signature alone."""
    _, body = next(bodies(range(1), Keys()))
    head = f"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nX-Sharegram-Signature: {FORGED}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Sender(asyncio.Protocol):
    """Sends and leaves."""

    def __init__(self, what: bytes) -> None:
        self._what = what

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._what)
        transport.close()


async def main(port: int, rate: float, seconds: float) -> None:
    what, sent, failed = request(), 0, 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (passed := loop.time() - began) < seconds:
        due = int(passed * rate) - sent
        made = await asyncio.gather(
            *(loop.create_connection(lambda: Sender(what), "127.0.0.1", port) for _ in range(due)),
            return_exceptions=True,
        )
        sent += due
        failed += sum(isinstance(each, BaseException) for each in made)
        await asyncio.sleep(TICK_SECONDS)
    print(f"RESULT {(sent - failed) / (loop.time() - began):.0f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
