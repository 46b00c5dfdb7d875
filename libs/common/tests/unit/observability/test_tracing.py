"""Sampling, well-formed contexts, and a collector that hangs."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.observability.otlp import MAX_PER_REQUEST, MAX_QUEUED, ExporterThread
from safevideo_common.observability.tracing import FinishedSpan, SpanKind, Tracer
from safevideo_testkit.eventually import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


class Spans:
    def __init__(self) -> None:
        self.finished: list[FinishedSpan] = []

    def add(self, span: FinishedSpan) -> None:
        self.finished.append(span)


@pytest.mark.parametrize(("ratio", "sampled"), [(0.0, 0), (1.0, 100)])
def test_tracer_samples_its_ratio_and_not_what_the_caller_says(ratio: float, sampled: int) -> None:
    tracer = Tracer(Spans(), ratio)
    begun = [tracer.sample("work", SpanKind.SERVER, SAMPLED) for _ in range(100)]
    assert sum(each is not None for each in begun) == sampled
    assert {each.trace_id for each in begun if each is not None} <= {TRACE}


@pytest.mark.parametrize(
    "traceparent", ["", SAMPLED[:-1] + "0", SAMPLED.replace(SPAN, "0" * 16), SAMPLED.upper(), SAMPLED + "-x", "x" * 55]
)
def test_only_a_wellformed_sampled_context_is_followed(traceparent: str) -> None:
    tracer = Tracer(Spans(), 1.0)
    assert tracer.follow("work", SpanKind.CONSUMER, traceparent) is None
    assert tracer.follow_all("work", SpanKind.CONSUMER, "batch", [traceparent]) is None
    assert tracer.follow("work", SpanKind.CONSUMER, SAMPLED) is not None


def test_each_event_of_a_batch_has_a_span_in_its_own_trace_that_links_to_the_transaction() -> None:
    spans = Spans()
    other = SAMPLED.replace(TRACE, "a" * 32)
    batch = Tracer(spans, 0.0).follow_all("process", SpanKind.CONSUMER, "transaction", [SAMPLED, "", other])
    assert batch is not None
    batch.end({})
    first, second, transaction = spans.finished
    assert (first.trace_id, second.trace_id) == (TRACE, "a" * 32)
    assert first.links == second.links == ((transaction.trace_id, transaction.span_id),)
    assert transaction.parent_id == ""


class HangingCollector:
    def __init__(self) -> None:
        self.called = threading.Event()
        self.released = threading.Event()
        self.received = 0

    def send(self, spans: Sequence[FinishedSpan]) -> bool:
        self.called.set()
        self.released.wait()
        self.received += len(spans)
        return False


async def test_collector_that_hangs_delays_neither_work_nor_stop_and_takes_bounded_memory(tmp_path: Path) -> None:
    collector = HangingCollector()
    sink = LogSink(tmp_path, stdout=False)
    exporter = ExporterThread(collector, build_logger("test", sink))
    tracer = Tracer(exporter, 1.0)
    try:
        for _ in range(2 * MAX_QUEUED):
            span = tracer.sample("work", SpanKind.SERVER)
            assert span is not None
            span.end()
        assert collector.called.wait(60)
        await exporter.close(0.05)
        assert not collector.released.is_set(), "the stop came back while the collector hung"
    finally:
        collector.released.set()

    async def is_sent() -> bool:
        return collector.received >= MAX_QUEUED

    await eventually(is_sent)
    assert collector.received <= MAX_QUEUED + MAX_PER_REQUEST
    sink.close()
    assert (tmp_path / "app.log").read_text().count("Traces are dropped") == 1, "one line an outage"
