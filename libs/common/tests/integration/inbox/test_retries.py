"""What had to wait: in order, with a bound, and without holding anyone else back."""

from safevideo_testkit.harness.processor import ProcessorHarness, sample_event


async def test_a_queue_goes_on_in_order_once_its_head_can_be_applied(bench: ProcessorHarness) -> None:
    bench.handler.is_open = False
    await bench.apply(sample_event("sg_1", "wait"), sample_event("sg_1", "b"), sample_event("sg_1", "c"))
    bench.handler.is_open = True
    await bench.scan_after(1)
    assert await bench.words() == {"sg_1": "wait b c"}
    assert await bench.outcomes() == [("applied", "sg_1")] * 3


async def test_nothing_is_tried_before_its_time(bench: ProcessorHarness) -> None:
    bench.handler.is_open = False
    await bench.apply(sample_event("sg_1", "wait"))
    bench.handler.is_open = True
    await bench.scan_after(0)
    assert await bench.outcomes() == [("waiting", "sg_1")]


async def test_an_event_whose_tries_are_used_up_is_dead_and_those_behind_it_go_on(bench: ProcessorHarness) -> None:
    bench.handler.is_open = False
    await bench.apply(sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
    await bench.scan_after(10)
    assert await bench.outcomes() == [("waiting", "sg_1")] * 2
    await bench.scan_after(10)
    assert await bench.outcomes() == [("dead", "sg_1"), ("applied", "sg_1")]
    assert await bench.words() == {"sg_1": "b"}
    assert (await bench.reasons())[0] == "TRIES_EXHAUSTED: after 3 tries: NOT_YET: the door is closed"


async def test_a_second_waiting_event_gets_tries_of_its_own(bench: ProcessorHarness) -> None:
    bench.handler.is_open = False
    await bench.apply(sample_event("sg_1", "wait"), sample_event("sg_1", "wait"))
    await bench.scan_after(10)
    await bench.scan_after(10)
    assert await bench.outcomes() == [("dead", "sg_1"), ("waiting", "sg_1")]
    bench.handler.is_open = True
    await bench.scan_after(10)
    assert await bench.outcomes() == [("dead", "sg_1"), ("applied", "sg_1")]


async def test_an_event_that_explodes_in_the_queue_costs_only_itself(bench: ProcessorHarness) -> None:
    bench.handler.is_open = False
    await bench.apply(sample_event("sg_1", "wait"), sample_event("sg_1", "explode"), sample_event("sg_1", "c"))
    bench.handler.is_open = True
    for _ in range(3):
        await bench.scan_after(1)
    assert await bench.outcomes() == [("applied", "sg_1"), ("dead", "sg_1"), ("applied", "sg_1")]
    assert await bench.words() == {"sg_1": "wait c"}


async def test_a_long_queue_is_worked_off_over_several_scans(bench: ProcessorHarness) -> None:
    bench.handler.is_open = False
    await bench.apply(sample_event("sg_1", "wait"), *[sample_event("sg_1", "x") for _ in range(120)])
    bench.handler.is_open = True
    await bench.scan_after(1)
    await bench.scan_after(1)
    assert await bench.words() == {"sg_1": "wait" + " x" * 120}
