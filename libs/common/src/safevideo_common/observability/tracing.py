"""Traces for OpenTelemetry, sent to a collector by OTLP over HTTP. Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

Code holds a `Tracer | None`: the check for None is all that tracing costs while it is off. A span that is not sampled
is None too, so it costs nothing further.

- The endpoint decides which webhook is sampled, after its signature held (`Tracer.sample`). The sampled flag of a
  caller decides nothing: `web/correlation.py` clears it.
- Our records carry `traceparent` with our own flag, and the services behind follow it (`Tracer.follow`).
- A span is exported when it has ended, with the ids that it had from its beginning. So a change event can name the
  span that caused it before that one has ended.

The tracer of the SDK is not used: it makes ids and samples by itself, and takes some 65 µs a span.
"""

import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from time import time_ns
from typing import Final, Protocol

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.settings import CommonSettings

STOP_SECONDS: Final = 1.0
"""Bound of the last export at a stop. What a hanging collector has not taken by then is lost."""

Attribute = str | int | float | bool
NO_ATTRIBUTES: Final[Mapping[str, Attribute]] = {}


class SpanKind(Enum):
    """The place of a span between two processes, as OpenTelemetry names it."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


@dataclass(frozen=True, slots=True)
class FinishedSpan:
    """A span as it is exported. Times are nanoseconds since the epoch, ids are hex."""

    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    """Trace and span of related spans."""
    started_at: int
    ended_at: int
    attributes: Mapping[str, Attribute]
    error: str


class Exporter(Protocol):
    """Takes finished spans; it never blocks and never raises."""

    def add(self, span: FinishedSpan) -> None:
        """Export the span later, or drop it."""
        ...


class Span:
    """A sampled piece of work, from now until `end`. Attributes and errors have codes and ids of ours, no contents."""

    __slots__ = ("_exporter", "_kind", "_links", "_name", "_parent_id", "_started_at", "span_id", "trace_id")

    def __init__(
        self,
        exporter: Exporter,
        name: str,
        kind: SpanKind,
        trace_id: str,
        parent_id: str,
        links: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """`parent_id` is empty for the first span of a trace."""
        self._exporter = exporter
        self._name = name
        self._kind = kind
        self.trace_id = trace_id
        self.span_id = f"{random.getrandbits(64) or 1:016x}"
        self._parent_id = parent_id
        self._links = links
        self._started_at = time_ns()

    @property
    def traceparent(self) -> str:
        """The header that makes another span the child of this one."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def child(self, name: str, kind: SpanKind) -> "Span":
        """Begin a span below this one."""
        return Span(self._exporter, name, kind, self.trace_id, self.span_id)

    def end(self, attributes: Mapping[str, Attribute] = NO_ATTRIBUTES, error: str = "") -> None:
        """End the span and export it. `error` is the code of a failure."""
        self._exporter.add(
            FinishedSpan(
                self._name, self._kind, self.trace_id, self.span_id, self._parent_id, self._links,
                self._started_at, time_ns(), attributes, error,
            )
        )  # fmt: skip


_CURRENT: Final[ContextVar[Span | None]] = ContextVar("span", default=None)


def current_span() -> Span | None:
    """Return the span of the job or request that runs in this task, or None."""
    return _CURRENT.get()


def current_traceparent() -> str:
    """Return the header by which others continue the current span; empty if there is none, or it is not sampled."""
    span = _CURRENT.get()
    return span.traceparent if span else ""


@contextmanager
def use_span(span: Span) -> Iterator[None]:
    """Make `span` the current one of this task and of the tasks that it begins."""
    token = _CURRENT.set(span)
    try:
        yield
    finally:
        _CURRENT.reset(token)


_SAMPLED: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01")
"""Anybody who may write to our topics may write this header: only a well-formed one is followed."""


class Tracer:
    """Begins the spans of a process."""

    def __init__(self, exporter: Exporter, ratio: float) -> None:
        """`ratio` of the traces that begin here are sampled, from 0 to 1."""
        self._exporter = exporter
        self._ratio = ratio

    def sample(self, name: str, kind: SpanKind, traceparent: str = "") -> Span | None:
        """Begin a span if chance samples it. `traceparent` is well-formed; only its ids count."""
        if random.random() >= self._ratio:  # noqa: S311 - whom chance picks is no secret
            return None
        if traceparent:
            return Span(self._exporter, name, kind, traceparent[3:35], traceparent[36:52])
        return Span(self._exporter, name, kind, f"{random.getrandbits(128) or 1:032x}", "")

    def follow(self, name: str, kind: SpanKind, traceparent: str) -> Span | None:
        """Begin a span below one of our own services' if that one is sampled."""
        if not _SAMPLED.fullmatch(traceparent):
            return None
        return Span(self._exporter, name, kind, traceparent[3:35], traceparent[36:52])

    def follow_all(
        self, name: str, kind: SpanKind, batch_name: str, traceparents: Sequence[str]
    ) -> "BatchSpans | None":
        """Begin the spans of a batch; None if none of its items is sampled.

        Each item has a span in its own trace, which links to the span of the batch. That one has a trace of its own,
        since it is part of many.
        """
        sampled = [_SAMPLED.fullmatch(each) is not None for each in traceparents]
        if not any(sampled):
            return None
        batch = Span(self._exporter, batch_name, SpanKind.INTERNAL, f"{random.getrandbits(128) or 1:032x}", "")
        link = ((batch.trace_id, batch.span_id),)
        return BatchSpans(
            batch,
            [
                Span(self._exporter, name, kind, each[3:35], each[36:52], link) if is_sampled else None
                for each, is_sampled in zip(traceparents, sampled, strict=True)
            ],
        )


@dataclass(frozen=True, slots=True)
class BatchSpans:
    """The span of a transaction, and one for each of its items that is sampled."""

    batch: Span
    items: Sequence[Span | None]

    def end(self, attributes: Mapping[str, Attribute], error: str = "") -> None:
        """End all of them."""
        for each in self.items:
            if each is not None:
                each.end(attributes, error)
        self.batch.end({**attributes, "messaging.batch.message_count": len(self.items)}, error)


@asynccontextmanager
async def open_tracer(
    settings: CommonSettings, service: str, logger: FilteringBoundLogger
) -> AsyncIterator[Tracer | None]:
    """Open the tracer of a service, or yield None if no collector is configured.

    A thread sends the spans. A collector that hangs delays neither a request nor, beyond `STOP_SECONDS`, the stop.
    """
    endpoint = settings.otel_exporter_otlp_endpoint
    if not endpoint:
        yield None
        return
    # Here: a process without traces saves the time and the memory of these imports.
    from safevideo_common.observability.otlp import ExporterThread, OtlpSender

    exporter = ExporterThread(OtlpSender(endpoint, service), logger)
    try:
        yield Tracer(exporter, settings.otel_traces_sampler_arg)
    finally:
        await exporter.close(STOP_SECONDS)
