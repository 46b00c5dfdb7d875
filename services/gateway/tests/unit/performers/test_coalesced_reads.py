"""Reads of a performer: one at a time for each key, and none that began before its caller came."""

import asyncio

import pytest

from gateway.performers.service import CoalescedReads


class Source:
    """A value that a writer changes while it is read. A read takes its value at its beginning."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.running = 0
        self.gate = asyncio.Event()

    async def read(self, _key: int, _follows: bool) -> int:
        self.running += 1
        assert self.running == 1
        self.reads += 1
        value = self.value
        await self.gate.wait()
        self.running -= 1
        if value < 0:
            raise ValueError(value)
        return value


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_during_a_read_share_the_next_one_and_see_what_was_written_meanwhile() -> None:
    source = Source()
    reads = CoalescedReads(source.read)
    first = asyncio.create_task(reads.get(1))
    await settled()
    source.value = 1  # a writer has committed and invalidated
    later = [asyncio.create_task(reads.get(1)) for _ in range(50)]
    await settled()
    assert source.reads == 1
    source.gate.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [1] * 50
    assert source.reads == 2
    assert await reads.get(1) == 1
    assert source.reads == 3


async def test_reads_of_other_keys_do_not_wait_and_a_failed_read_fails_its_callers_only() -> None:
    source = Source()
    source.gate.set()
    reads = CoalescedReads(source.read)
    source.value = -1
    failing = asyncio.create_task(reads.get(1))
    await settled()
    with pytest.raises(ValueError, match="-1"):
        await failing
    source.value = 2
    assert await asyncio.gather(*(reads.get(1) for _ in range(2))) == [2] * 2


async def test_caller_who_gives_up_ends_no_read() -> None:
    source = Source()
    reads = CoalescedReads(source.read)
    first = asyncio.create_task(reads.get(1))
    await settled()
    second = asyncio.create_task(reads.get(1))
    await settled()
    first.cancel()
    await settled()
    assert first.cancelled()
    source.gate.set()
    assert await second == 0
    assert source.reads == 2
