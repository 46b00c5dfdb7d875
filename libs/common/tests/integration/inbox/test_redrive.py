"""Redrive with the retry scan after it: order, attempts and reasons."""

import asyncio

from safevideo_common.audit.store import Caller
from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.redrive import RedriveService
from safevideo_common.inbox.store.redrive import RedriveFilter
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.processor import ProcessorHarness, sample_event

OPERATOR = Caller("operator", "admin", None, "req-1")
DEAD = RedriveFilter()


async def redrive(harness: ProcessorHarness, matching: RedriveFilter = DEAD) -> int:
    return (await RedriveService(harness.consumer.database, lambda: harness.now).run(matching, OPERATOR)).redriven


async def test_redriven_event_is_applied_without_a_reason(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "explode"), sample_event("sg_2", "x"))
    harness.handler.is_fixed = True
    assert await redrive(harness) == 1
    await harness.scan_after(0)
    assert await harness.outcomes() == [("applied", "sg_1"), ("applied", "sg_2")]
    assert await harness.reasons() == ["", ""]
    assert await harness.words() == {"sg_1": "explode", "sg_2": "x"}


async def test_later_events_wait_behind_a_redriven_event(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "explode"), sample_event("sg_1", "b"))
    harness.handler.is_fixed = True
    await redrive(harness)
    await harness.process(sample_event("sg_1", "c"), sample_event("sg_2", "x"))
    assert await harness.words() == {"sg_1": "b", "sg_2": "x"}
    await harness.scan_after(0)
    assert await harness.words() == {"sg_1": "b explode c", "sg_2": "x"}


async def test_redriven_event_precedes_a_waiting_event_and_costs_it_no_attempt(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "explode"), sample_event("sg_1", "wait"), sample_event("sg_1", "c"))
    harness.handler.is_fixed = True
    await redrive(harness)
    await harness.scan_after(0)
    assert [status for status, _ in await harness.outcomes()] == ["applied", "waiting", "waiting"]
    for _ in range(2):  # of three tries one was used when it came
        await harness.scan_after(10)
    assert [status for status, _ in await harness.outcomes()] == ["applied", "dead", "applied"]
    assert (await harness.reasons())[1].startswith("TRIES_EXHAUSTED: after 3 tries")


async def test_redriven_event_waits_behind_an_older_waiting_event(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "explode"))
    for _ in range(3):  # the first uses up its tries, then the second explodes
        await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1")] * 2
    await redrive(harness, RedriveFilter(reason="TRIES"))
    await harness.scan_after(0)
    harness.handler.is_fixed = True
    await redrive(harness)
    await harness.scan_after(0)
    assert await harness.outcomes() == [("waiting", "sg_1")] * 2
    harness.handler.is_open = True
    await harness.scan_after(10)
    assert await harness.words() == {"sg_1": "wait explode"}


async def test_redriven_event_that_fails_again_has_one_reason(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "explode"), sample_event("sg_1", "b"))
    for _ in range(3):
        assert await redrive(harness) == 1
        assert (await harness.reasons())[0] == "REDRIVEN: it was dead: HANDLER_FAILED: ZeroDivisionError"
        await harness.scan_after(0)
        assert await harness.outcomes() == [("dead", "sg_1"), ("applied", "sg_1")]
        assert (await harness.reasons())[0] == "HANDLER_FAILED: ZeroDivisionError"
    harness.handler.is_fixed = True
    await redrive(harness)
    await harness.scan_after(0)
    assert await harness.words() == {"sg_1": "b explode"}


async def test_redriven_event_has_all_attempts_again(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"))
    for _ in range(2):
        await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1")]
    await redrive(harness)
    for _ in range(2):
        await harness.scan_after(10)
        assert await harness.outcomes() == [("waiting", "sg_1")]
    await harness.scan_after(10)
    assert (await harness.reasons())[0] == "TRIES_EXHAUSTED: after 3 tries: NOT_YET: the handler is closed"


async def test_redrive_makes_a_waiting_event_due(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
    harness.handler.is_open = True
    assert await redrive(harness, RedriveFilter(Status.WAITING)) == 1
    await harness.scan_after(0)
    assert await harness.words() == {"sg_1": "wait b"}


async def test_redriven_events_of_a_performer_are_applied_in_order(harness: ProcessorHarness) -> None:
    await harness.process(*[sample_event("sg_1", "explode") for _ in range(4)])
    harness.handler.is_fixed = True
    assert await redrive(harness) == 4
    await harness.process(sample_event("sg_1", "last"))
    await harness.scan_after(0)
    assert await harness.words() == {"sg_1": "explode explode explode explode last"}


async def test_concurrent_redrive_scan_and_live_flow_apply_each_event_once(
    harness: ProcessorHarness, database: Database, log: FilteringBoundLogger
) -> None:
    performers = [f"sg_{number}" for number in range(20)]
    await harness.process(*[sample_event(name, "explode") for name in performers])
    harness.handler.is_fixed = True
    scanner, live = ProcessorHarness(database, log), ProcessorHarness(database, log)
    scanner.handler.is_fixed = True

    async def scanning() -> None:
        while ("waiting" in (statuses := {status for status, _ in await harness.outcomes()})) or "dead" in statuses:
            await scanner.scan_after(0)

    async def living() -> None:
        for _ in range(5):
            await live.process(*[sample_event(name, "x") for name in performers])

    async with asyncio.timeout(60):
        redriven, other, *_ = await asyncio.gather(redrive(harness), redrive(scanner), scanning(), living())
        await scanning()
    assert redriven + other == 20
    words = await harness.words()
    assert {name: sorted(words[name].split()) for name in performers} == {
        name: ["explode", *"xxxxx"] for name in performers
    }
