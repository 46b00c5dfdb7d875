"""The outbox after a batch: a change for each applied event, a dead letter for each dead event."""

from collections.abc import Sequence

from safevideo_common.broker.types import Message, Record
from safevideo_common.inbox.handler import delivery_of
from safevideo_testkit.harness.processor import CHANGED_TOPIC, ProcessorHarness, sample_event

DEAD = "marks.dlq.v1"


async def changes(harness: ProcessorHarness) -> Sequence[str]:
    return [each.value.decode() for each in await harness.outbox() if each.topic == CHANGED_TOPIC]


async def copies(harness: ProcessorHarness) -> Sequence[Message]:
    return [each for each in await harness.outbox() if each.topic == DEAD]


async def test_processor_publishes_each_applied_event_once_in_order(harness: ProcessorHarness) -> None:
    batch = [sample_event("sg_1", "a"), sample_event("sg_2", "x"), sample_event("sg_1", "b")]
    await harness.process(*batch)
    await harness.process(*batch)
    await harness.process(sample_event("sg_1", "c", event_type="never.heard.of"))
    assert await changes(harness) == ["a", "x", "b"]


async def test_scanner_publishes_a_waiting_event_when_it_is_applied(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "a"), sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
    assert await changes(harness) == ["a"]
    harness.handler.is_open = True
    await harness.scan_after(1)
    assert await changes(harness) == ["a", "wait", "b"]


async def test_processor_publishes_events_beside_a_failing_event_once(harness: ProcessorHarness) -> None:
    await harness.process(
        sample_event("sg_1", "a"), sample_event("sg_1", "explode"), sample_event("sg_2", "x"), sample_event("sg_1", "b")
    )
    assert await changes(harness) == ["a", "x", "b"]


async def test_dead_letter_is_a_copy_with_the_position_of_the_record(harness: ProcessorHarness) -> None:
    record = Record("marks", 3, 17, 0, b"\xffkey", b"\x00 no event", (("odd", b"\xff"), ("odd", b"")))
    await harness.process(delivery_of(record), sample_event("sg_1", "a"))
    (copy,) = await copies(harness)
    assert (copy.key, copy.value) == (record.key, record.value)
    assert copy.headers[:2] == record.headers
    origin = dict(copy.headers[2:])
    assert origin.pop("dlq_reason").startswith(b"ENVELOPE_INVALID: ")
    assert origin == {
        "dlq_group": b"marks",
        "dlq_topic": b"marks",
        "dlq_partition": b"3",
        "dlq_offset": b"17",
        "dlq_tries": b"1",
    }


async def test_dead_letter_cuts_a_key_that_is_too_long(harness: ProcessorHarness) -> None:
    await harness.process(delivery_of(Record("marks", 0, 0, 0, b"k" * 1_000_000, b"", ())))
    (copy,) = await copies(harness)
    assert copy.key == b"k" * (1 << 15)
    assert [status for status, _ in await harness.outcomes()] == ["dead"]


async def test_dead_letter_of_an_exhausted_event_has_the_headers_of_its_envelope(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait", event_id="evt-late", offset=7))
    assert await copies(harness) == []
    for _ in range(3):
        await harness.scan_after(10)
    (copy,) = await copies(harness)
    headers = dict(copy.headers)
    assert (copy.key, copy.value, headers["ce_id"]) == (b"sg_1", b"wait", b"evt-late")
    assert (headers["dlq_tries"], headers["dlq_offset"]) == (b"3", b"7")
    assert headers["dlq_reason"] == b"TRIES_EXHAUSTED: after 3 tries: NOT_YET: the handler is closed"


async def test_scanner_publishes_one_dead_letter_of_a_failing_event(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(sample_event("sg_1", "wait"), sample_event("sg_1", "explode"))
    harness.handler.is_open = True
    for _ in range(3):
        await harness.scan_after(1)
    (copy,) = await copies(harness)
    assert copy.value == b"explode"
    assert dict(copy.headers)["dlq_reason"] == b"HANDLER_FAILED: ZeroDivisionError"
