"""No command stays without a sender, whenever it comes. The client of Redis is a stand-in that answers on a sign."""

import asyncio
from typing import Any

from safevideo_common.resilience.redis_pipeline import MAX_ROUND_TRIPS, RedisPipeline
from safevideo_testkit.virtual_time import in_virtual_time


class Client:
    """Answers each command with its own name. Round trips end together, once `answers` is set."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.round_trips = 0

    def pipeline(self, *, transaction: bool) -> "RoundTrip":
        assert not transaction
        return RoundTrip(self)


class RoundTrip:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._commands: list[str] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command[0])

    async def execute(self, *, raise_on_error: bool) -> list[str]:
        assert not raise_on_error
        self._client.round_trips += 1
        await self._client.answers.wait()
        return self._commands


@in_virtual_time
async def test_command_that_comes_just_as_all_senders_end_is_sent() -> None:
    client = Client()
    pipeline = RedisPipeline(client, seconds=60)  # type: ignore[arg-type]

    async def twice() -> list[str]:
        return [await pipeline.run("first"), await pipeline.run("second")]

    callers: list[asyncio.Task[Any]] = [asyncio.create_task(twice())]
    await asyncio.sleep(1)
    for _ in range(MAX_ROUND_TRIPS - 1):
        callers.append(asyncio.create_task(pipeline.run("other")))
        await asyncio.sleep(1)
    assert client.round_trips == MAX_ROUND_TRIPS
    client.answers.set()
    async with asyncio.timeout(1):
        assert await asyncio.gather(*callers) == [["first", "second"], *["other"] * (MAX_ROUND_TRIPS - 1)]


@in_virtual_time
async def test_commands_are_sent_though_the_sender_before_them_was_cancelled() -> None:
    client = Client()
    pipeline = RedisPipeline(client, seconds=60)  # type: ignore[arg-type]
    before = asyncio.all_tasks()
    first = []
    for number in range(MAX_ROUND_TRIPS + 1):
        first.append(asyncio.create_task(pipeline.run(str(number))))
        await asyncio.sleep(1)
    assert client.round_trips == MAX_ROUND_TRIPS
    for sender in asyncio.all_tasks() - before - set(first):
        sender.cancel()
    client.answers.set()
    async with asyncio.timeout(1):
        await asyncio.wait(first)
    assert [task.cancelled() for task in first] == [True] * MAX_ROUND_TRIPS + [False]
