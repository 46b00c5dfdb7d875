"""The retry scanner: order, attempts and failing events."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from safevideo_common.domain.outcomes import Outcome
from safevideo_common.inbox.handler import Delivery
from safevideo_common.observability.tracing import FinishedSpan, Tracer
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.harness.processor import ProcessorHarness, SampleEvent, SampleHandler, sample_event


async def test_scanner_processes_a_queue_in_order_once_its_head_is_applicable(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "b"), sample_event("sg_1", "c"))
    harness.handler.is_open = True
    await harness.scan_after(1)
    assert await harness.words() == {"sg_1": "wait b c"}
    assert await harness.outcomes() == [("applied", "sg_1")] * 3


async def test_scanner_retries_nothing_before_its_time(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"))
    harness.handler.is_open = True
    await harness.scan_after(0)
    assert await harness.outcomes() == [("waiting", "sg_1")]


async def test_scanner_dead_letters_an_exhausted_event_and_processes_the_next(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
    await harness.scan_after(10)
    assert await harness.outcomes() == [("waiting", "sg_1")] * 2
    await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1"), ("applied", "sg_1")]
    assert await harness.words() == {"sg_1": "b"}
    assert (await harness.reasons())[0] == "TRIES_EXHAUSTED: after 3 tries: NOT_YET: the handler is closed"


async def test_second_waiting_event_has_its_own_attempts(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "wait"))
    await harness.scan_after(10)
    await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1"), ("waiting", "sg_1")]
    harness.handler.is_open = True
    await harness.scan_after(10)
    assert await harness.outcomes() == [("dead", "sg_1"), ("applied", "sg_1")]


async def test_scanner_dead_letters_only_the_failing_event(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "explode"), sample_event("sg_1", "c"))
    harness.handler.is_open = True
    for _ in range(3):
        await harness.scan_after(1)
    assert await harness.outcomes() == [("applied", "sg_1"), ("dead", "sg_1"), ("applied", "sg_1")]
    assert await harness.words() == {"sg_1": "wait c"}


async def test_scanner_processes_a_long_queue_in_several_transactions(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), *[sample_event("sg_1", "x") for _ in range(120)])
    harness.handler.is_open = True
    await harness.scan_after(1)
    await harness.scan_after(1)
    assert await harness.words() == {"sg_1": "wait" + " x" * 120}


async def test_scanner_completes_a_long_queue_around_failing_events_in_one_scan(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    words = ["wait", *("explode" if number in (40, 90) else "x" for number in range(1, 110))]
    await harness.process(*(sample_event("sg_1", word) for word in words))
    harness.handler.is_open = True
    await harness.scan_after(1)
    assert await harness.words() == {"sg_1": " ".join(word for word in words if word != "explode")}


async def test_scanner_pauses_after_too_many_dead_letters_and_goes_on(harness: ProcessorHarness, logs: Path) -> None:
    harness.handler.is_open = False
    await harness.process(*(sample_event(f"sg_{number}", "wait") for number in range(150)))
    harness.now += timedelta(seconds=100)
    scanner = replace(harness.scanner, scan_interval=0.02, max_attempts=1, pause_seconds=0.02)

    async def all_are_dead() -> bool:
        return {status for status, _ in await harness.outcomes()} == {"dead"}

    async with running_task(scanner.run()):
        await eventually(all_are_dead)
    assert "TOO_MANY_DEAD Retries paused" in (logs / "error.log").read_text()


class Spans:
    def __init__(self) -> None:
        self.finished: list[FinishedSpan] = []

    def add(self, span: FinishedSpan) -> None:
        self.finished.append(span)


class HandlerOfTraces(SampleHandler):
    def __init__(self) -> None:
        super().__init__()
        self.traceparents: set[str] = set()

    def parse(self, delivery: Delivery) -> SampleEvent | Outcome:
        self.traceparents.add(delivery.envelope.traceparent)
        return super().parse(delivery)


async def test_sampled_attempt_at_a_queue_is_a_trace_that_its_events_continue(harness: ProcessorHarness) -> None:
    spans, handler = Spans(), HandlerOfTraces()
    consumer = replace(harness.scanner.consumer, tracer=Tracer(spans, 1.0), handler=handler)
    handler.is_open = False
    harness.scanner = replace(harness.scanner, consumer=consumer)
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
    await harness.scan_after(1)
    handler.is_open = True
    await harness.scan_after(10)
    still_waits, applied = spans.finished
    assert {each.name for each in spans.finished} == {f"retry {consumer.group}"}
    assert [each.attributes["safevideo.events.completed"] for each in (still_waits, applied)] == [0, 2]
    assert not applied.error
    assert handler.traceparents == {f"00-{each.trace_id}-{each.span_id}-01" for each in (still_waits, applied)}
