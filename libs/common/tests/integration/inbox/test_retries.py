"""What had to wait: in order, with a bound, and without holding anyone else back."""

from safevideo_testkit.harness.processor import ProcessorHarness, sample_event


async def test_a_queue_goes_on_in_order_once_its_head_can_be_applied(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "b"), sample_event("sg_1", "c"))
    harness.handler.is_open = True
    await harness.scan_after(1)
    assert await harness.words() == {"sg_1": "wait b c"}
    assert await harness.outcomes() == [("applied", "sg_1")] * 3


async def test_nothing_is_tried_before_its_time(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"))
    harness.handler.is_open = True
    await harness.scan_after(0)
    assert await harness.outcomes() == [("waiting", "sg_1")]


async def test_an_event_whose_tries_are_used_up_is_dead_and_those_behind_it_go_on(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
    await harness.scan_after(10)
    assert await harness.outcomes() == [("waiting", "sg_1")] * 2
    await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1"), ("applied", "sg_1")]
    assert await harness.words() == {"sg_1": "b"}
    assert (await harness.reasons())[0] == "TRIES_EXHAUSTED: after 3 tries: NOT_YET: the door is closed"


async def test_a_second_waiting_event_gets_tries_of_its_own(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "wait"))
    await harness.scan_after(10)
    await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1"), ("waiting", "sg_1")]
    harness.handler.is_open = True
    await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1"), ("applied", "sg_1")]


async def test_an_event_that_explodes_in_the_queue_costs_only_itself(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "explode"), sample_event("sg_1", "c"))
    harness.handler.is_open = True
    for _ in range(3):
        await harness.scan_after(1)
    assert await harness.outcomes() == [("applied", "sg_1"), ("dead", "sg_1"), ("applied", "sg_1")]
    assert await harness.words() == {"sg_1": "wait c"}


async def test_a_long_queue_is_worked_off_over_several_scans(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), *[sample_event("sg_1", "x") for _ in range(120)])
    harness.handler.is_open = True
    await harness.scan_after(1)
    await harness.scan_after(1)
    assert await harness.words() == {"sg_1": "wait" + " x" * 120}
