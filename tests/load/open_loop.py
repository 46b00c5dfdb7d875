"""A load that does not wait: `python open_loop.py door PORT RATE SECONDS`, or `… broker SERVERS RATE SECONDS`.

Every millisecond the webhooks that are due are sent, and each one's latency counts from the millisecond in which it was
due: whoever falls behind is measured with his delay, which a load of closed loops hides (coordinated omission). Prints
percentiles over all of them but those of the first seconds.
"""

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final, Protocol

import uvloop
from open_loop_connections import Connections
from payloads import Keys, messages

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message

TICK_SECONDS: Final = 0.001
WARM_UP_SECONDS: Final = 2.0
LAST_ANSWER_SECONDS: Final = 5.0
IN_TURN: Final = 5000


class Target(Protocol):
    """What takes the load."""

    def send(self, number: int, done: Callable[[bool], None]) -> None:
        """Send the webhook of this number at once, and say later whether it was taken."""
        ...


class Load:
    """`rate` webhooks a second to `target`, for `seconds`."""

    def __init__(self, target: Target, rate: float, seconds: float) -> None:
        self._target = target
        self._rate = rate
        self._ticks = int((WARM_UP_SECONDS + seconds) / TICK_SECONDS)
        self._tick = 0
        self._sent = 0
        self._open = 0
        self._began = 0.0
        self._latencies: list[float] = []
        self._failed = 0
        self._ended = asyncio.Event()

    async def run(self) -> dict[str, float]:
        """Percentiles in milliseconds. What has no answer `LAST_ANSWER_SECONDS` after the last was due has failed."""
        self._began = perf_counter()
        with _every_tick(self._send_due):
            limit = self._ticks * TICK_SECONDS + LAST_ANSWER_SECONDS
            try:
                await asyncio.wait_for(self._ended.wait(), limit)
            except TimeoutError:
                self._failed += self._open
        return self._result()

    def _send_due(self) -> None:
        now = int((perf_counter() - self._began) / TICK_SECONDS)
        while self._tick < min(now, self._ticks):
            self._tick += 1
            due = int(self._tick * TICK_SECONDS * self._rate)
            for number in range(self._sent, due):
                self._send(number, self._began + self._tick * TICK_SECONDS)
            self._sent = due
        self._end_if_answered()

    def _send(self, number: int, at: float) -> None:
        def done(taken: bool) -> None:
            self._open -= 1
            if not taken:
                self._failed += 1
            elif at - self._began >= WARM_UP_SECONDS:
                self._latencies.append((perf_counter() - at) * 1000)
            self._end_if_answered()

        self._open += 1
        self._target.send(number, done)

    def _end_if_answered(self) -> None:
        if self._open == 0 and self._tick == self._ticks:
            self._ended.set()

    def _result(self) -> dict[str, float]:
        ordered = sorted(self._latencies)
        if not ordered:
            raise RuntimeError("nothing was answered")
        at = {name: ordered[int(len(ordered) * share)] for name, share in (("p50Ms", 0.5), ("p99Ms", 0.99))}
        return {**at, "maxMs": ordered[-1], "counted": len(ordered), "failed": self._failed}


@contextmanager
def _every_tick(call: Callable[[], None]) -> Iterator[None]:
    # The kernel's timer: those of an event loop are whole milliseconds late.
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGALRM, call)
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Broker:
    """The log itself, through the publisher that the door has: what a webhook's way cannot be shorter than."""

    def __init__(self, publisher: Producer) -> None:
        self._publisher = publisher
        self._messages = list(messages(range(IN_TURN), Keys()))
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, number: int, done: Callable[[bool], None]) -> None:
        """See `Target`."""
        task = asyncio.create_task(self._publish(self._messages[number % IN_TURN], done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, message: Message, done: Callable[[bool], None]) -> None:
        try:
            await self._publisher.publish(message)
        except Exception:  # noqa: BLE001 - the bench counts it
            done(False)
        else:
            done(True)


async def main(kind: str, address: str, rate: float, seconds: float) -> dict[str, float]:
    """Load the door at a port, or the broker at its servers."""
    if kind == "door":
        async with Connections.opened(int(address), IN_TURN) as connections:
            return await _loaded(connections, rate, seconds)
    async with open_broker(address, None) as broker, broker.producer("open-loop") as publisher:
        for message in messages(range(1), Keys()):
            await publisher.publish(message)
        return await _loaded(Broker(publisher), rate, seconds)


async def _loaded(target: Target, rate: float, seconds: float) -> dict[str, float]:
    gc.collect()
    gc.freeze()
    gc.disable()  # a pause of the generator would be blamed on what it loads
    return await Load(target, rate, seconds).run()


if __name__ == "__main__":
    print("RESULT", json.dumps(uvloop.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))))
