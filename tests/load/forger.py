"""The impatient forger: `python forger.py PORT RATE SECONDS`. It connects, sends one forged webhook, and is gone.

No answer is waited for, so holding answers back does not slow it down: what is left is the price of a connection. It
comes from an address of its own, as forgers do. Nothing here waits: what finds the door's backlog full is not sent.
Prints how many it sent a second.
"""

import json
import socket
import sys
import time
from contextlib import suppress
from typing import Final

from payloads import Keys, bodies

TICK_SECONDS: Final = 0.001
BEHIND_SECONDS: Final = 0.1
"""How much of what it could not send in time it still sends: a forger that was held up makes no burst of it."""

FORGED: Final = "sha256=" + "0" * 64
ADDRESS: Final = "127.0.0.2"


def request() -> bytes:
    """One, which differs from a good one by its signature alone."""
    _, body = next(bodies(range(1), Keys()))
    head = f"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nX-Sharegram-Signature: {FORGED}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def main(port: int, rate: float, seconds: float) -> float:
    """Forged webhooks a second that were sent."""
    what, sent = request(), 0
    began = last = time.perf_counter()
    due = 0.0
    while (now := time.perf_counter()) - began < seconds:
        due = min(due + (now - last) * rate, BEHIND_SECONDS * rate)
        last = now
        while due >= 1:
            sent += _sent(what, port)
            due -= 1
        time.sleep(TICK_SECONDS)
    return sent / (time.perf_counter() - began)


def _sent(what: bytes, port: int) -> bool:
    """Whether it went out. On loopback a connection is made at once, or the door's backlog is full."""
    with socket.socket() as forger, suppress(OSError):
        forger.setblocking(False)
        forger.bind((ADDRESS, 0))
        with suppress(BlockingIOError):
            forger.connect(("127.0.0.1", port))
        return forger.send(what) == len(what)
    return False


if __name__ == "__main__":
    print("RESULT", json.dumps({"forged": main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))}))
