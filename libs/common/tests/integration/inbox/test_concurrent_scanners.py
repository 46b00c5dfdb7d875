"""Concurrent retry scanners, and one that is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.harness.processor import ProcessorHarness, sample_event

QUEUES = 60
PROGRAM = Path(__file__).with_name("scanner_process.py")


async def queues_of_three(harness: ProcessorHarness) -> list[str]:
    """Return stored performers, each with three waiting events."""
    performers = [f"sg_{number}" for number in range(QUEUES)]
    await harness.process(*[sample_event(name, "0") for name in performers])
    harness.handler.is_open = False
    await harness.process(*[sample_event(name, word) for name in performers for word in ("wait", "2", "3")])
    harness.handler.committed.clear()
    return performers


async def test_two_scanners_complete_each_event_once(
    harness: ProcessorHarness, database_url: str, log: FilteringBoundLogger
) -> None:
    performers = await queues_of_three(harness)
    async with Database.open(database_url) as first, Database.open(database_url) as second:
        scanners = [ProcessorHarness(first, log), ProcessorHarness(second, log)]
        await asyncio.gather(*(scanner.scan_after(10) for scanner in scanners))
    assert await harness.words() == dict.fromkeys(performers, "0 wait 2 3")
    assert {status for status, _ in await harness.outcomes()} == {"applied"}
    followed = Counter(name for scanner in scanners for name in scanner.handler.committed)
    assert followed == Counter(performers), "after_commit follows each commit once, in the process that committed"


async def test_two_scanners_use_one_attempt_of_an_event(
    harness: ProcessorHarness, database_url: str, log: FilteringBoundLogger
) -> None:
    """The second scanner finds that the head is not due."""
    performers = await queues_of_three(harness)
    async with Database.open(database_url) as first, Database.open(database_url) as second:
        scanners = [ProcessorHarness(first, log), ProcessorHarness(second, log)]
        for scanner in scanners:
            scanner.handler.is_open = False
        await asyncio.gather(*(scanner.scan_after(10) for scanner in scanners))
    assert Counter(await harness.outcomes()) == Counter(
        [("applied", name) for name in performers] + [("waiting", name) for name in performers for _ in range(3)]
    )
    harness.now = scanners[0].now
    await harness.scan_after(10)
    assert Counter(await harness.reasons())["TRIES_EXHAUSTED: after 3 tries: NOT_YET: the handler is closed"] == QUEUES


async def test_killed_scanner_leaves_the_event_due(harness: ProcessorHarness, database_url: str) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "0"), sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
    harness.handler.is_open = True
    killed = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, database_url, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    assert killed.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await killed.stdout.readline() == b"written, not committed\n"
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
    async with asyncio.timeout(30):
        await harness.scan_after(10)
    assert await harness.words() == {"sg_1": "0 wait b"}
    assert await harness.outcomes() == [("applied", "sg_1")] * 3
