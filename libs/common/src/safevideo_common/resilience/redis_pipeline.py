"""Commands of concurrent callers in one round trip to Redis.

A round trip costs a process far more than a command. A caller that comes while another's command is in flight waits for
its answer, and then all who wait go out together. A caller that is alone waits for nobody.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import Redis

from safevideo_common.tasks import preserve_cancellation, reset_as_os_error

MAX_COMMANDS: Final = 100
"""Of one round trip, so that its answers come in time."""
MAX_ROUND_TRIPS: Final = 2
"""At once. With two, one is parsed while the other waits."""


class RedisPipeline:
    """Sends commands. Each is sent once, and its error is its own."""

    def __init__(self, redis: Redis, *, seconds: float) -> None:
        """`seconds` is the deadline of a round trip, with connecting."""
        self._redis = redis
        self._seconds = seconds
        self._waiting: deque[tuple[tuple[Any, ...], asyncio.Future[Any]]] = deque()
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self, *command: Any) -> Any:
        """Return the answer of a command. Raises `RedisError` or `OSError`, such as `TimeoutError`.

        A caller that is cancelled gives up its answer. The command may have had its effect.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        self._start_sender()
        return await answer

    def _start_sender(self) -> None:
        if self._waiting and len(self._sending) < MAX_ROUND_TRIPS:
            task = asyncio.create_task(self._send(), name="redis-pipeline")
            self._sending.add(task)
            task.add_done_callback(self._sender_ended)

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._start_sender()  # for a command that came after the last look at the queue, and still counted on this one

    async def _send(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_COMMANDS))]
            batch = [each for each in batch if not each[1].done()]
            try:
                with preserve_cancellation(), reset_as_os_error():
                    async with asyncio.timeout(self._seconds):
                        answers = await self._round_trip([command for command, _ in batch])
            except asyncio.CancelledError:
                for _, answer in batch:
                    answer.cancel()
                raise
            except Exception as error:  # noqa: BLE001 - nobody may wait for ever
                answers = [error] * len(batch)
            for (_, answer), value in zip(batch, answers, strict=True):
                with suppress(asyncio.InvalidStateError):  # its caller has given up
                    if isinstance(value, Exception):
                        answer.set_exception(value)
                    else:
                        answer.set_result(value)

    async def _round_trip(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            _ = pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)
