"""The export of finished spans: a bounded queue, and a thread that sends them by the client of OpenTelemetry's SDK."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import FinishedSpan

MAX_QUEUED: Final = 4096
"""Spans that wait for the collector, about 4 MB. Further ones are dropped."""
MAX_PER_REQUEST: Final = 512
EXPORT_INTERVAL_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 5.0
"""Bound of a request to the collector with all its retries."""

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("safevideo")
_OK: Final = Status(StatusCode.UNSET)


class OtlpSender:
    """A client of a collector. It blocks: a thread of its own calls it."""

    def __init__(self, endpoint: str, service: str) -> None:
        """`endpoint` is the base address, without `/v1/traces`."""
        # Its warnings quote the collector's answers, one a request. The caller reports outages once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._resource = Resource({"service.name": service, "service.namespace": "safevideo"})
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=REQUEST_SECONDS)

    def send(self, spans: Sequence[FinishedSpan]) -> bool:
        """Send the spans, and return whether the collector has them."""
        return self._exporter.export([self._readable(each) for each in spans]) is SpanExportResult.SUCCESS

    def _readable(self, span: FinishedSpan) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id, is_remote=False),
            parent=_context(span.trace_id, span.parent_id, is_remote=True) if span.parent_id else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[Link(_context(*link, is_remote=False)) for link in span.links],
            kind=SpanKind(span.kind.value),
            status=Status(StatusCode.ERROR, span.error) if span.error else _OK,
            start_time=span.started_at,
            end_time=span.ended_at,
            instrumentation_scope=_SCOPE,
        )


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, _SAMPLED)


class SpanSender(Protocol):
    """Sends spans to a collector."""

    def send(self, spans: Sequence[FinishedSpan]) -> bool:
        """Send the spans, blocking for a bounded time, and return whether the collector has them."""
        ...


class ExporterThread:
    """A bounded queue of finished spans and the thread that sends them."""

    def __init__(self, sender: SpanSender, logger: FilteringBoundLogger) -> None:
        self._sender = sender
        self._logger = logger
        self._queue: deque[FinishedSpan] = deque()
        self._wakeup = threading.Event()
        self._is_stopping = False
        self._is_failing = False
        # A daemon: a thread of a pool would be waited for at the end of the process.
        self._thread = threading.Thread(target=self._run, name="trace-exporter", daemon=True)
        self._thread.start()

    def add(self, span: FinishedSpan) -> None:
        """See `Exporter`."""
        if len(self._queue) >= MAX_QUEUED:
            return
        self._queue.append(span)
        if len(self._queue) >= MAX_PER_REQUEST:
            self._wakeup.set()

    async def close(self, seconds: float) -> None:
        """Send what is queued, for at most `seconds`."""
        self._is_stopping = True
        self._wakeup.set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._thread.is_alive() and loop.time() < deadline:  # noqa: ASYNC110 - a thread sets no event of the loop
            await asyncio.sleep(0.01)

    def _run(self) -> None:
        while not self._is_stopping:
            self._wakeup.wait(EXPORT_INTERVAL_SECONDS)
            self._wakeup.clear()
            self._send_queued()
        self._send_queued()

    def _send_queued(self) -> None:
        while self._queue:
            self._send([self._queue.popleft() for _ in range(min(MAX_PER_REQUEST, len(self._queue)))])

    def _send(self, spans: Sequence[FinishedSpan]) -> None:
        try:
            was_sent = self._sender.send(spans)
        except Exception:  # noqa: BLE001 - whatever the exporter raises, the next spans may arrive
            was_sent = False
        if was_sent is self._is_failing:  # one line at the begin and one at the end of an outage
            self._is_failing = not was_sent
            self._logger.warning(
                "Traces are exported again" if was_sent else "Traces are dropped", code="TRACE_EXPORT_FAILED"
            )
