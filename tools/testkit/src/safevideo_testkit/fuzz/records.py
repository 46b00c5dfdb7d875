"""Records that no producer of ours writes, and a worker's processor that must get past each of them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from safevideo_common.broker.types import Headers, Record
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.replay.policies import MissingOnly
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.harness.replay import RecordingInvalidator
from sync_worker.performers.handler import PerformerEvent, PerformerHandler, PerformerStates

_GROUP: Final = "sync-worker"
_TYPE: Final = "performer.profile.updated"
_NAMES: Final = ("ce_id", "ce_type", "ce_time", "ce_subject", "ce_source", "request_id", "traceparent")
_ODD_TIMES: Final = (
    b"0001-01-01T00:30:00+01:00", b"9999-12-31T23:59:59-01:00", b"0000-01-01T00:00:00Z", b"1000-01-01T00:00:00+23:59",
    b"2026-11-24T12:00:00", b"-1", b"2026-11-24T12:00:00.123456789Z",
)  # fmt: skip
_ODD_BODIES: Final = (
    b'{"data":{"performerId":"sg_1","changes":{"username":"\\ud800"}}}',
    b'{"data":{"performerId":"sg_1","changes":{"username":"\\u0000"}}}',
    b'{"data":{"performerId":"' + b"x" * 500 + b'","changes":{"username":"a"}}}',
    b'{"data":{"performerId":"sg_1","changes":{"bio":"' + b"y" * 70_000 + b'"}}}',
    b'{"data":{"performerId":"sg_1","changes":{"username":"a"},"version":9223372036854775808}}',
    b'{"data":' + b"[" * 20_000,
    b"\xff\xfe", b"null", b"{}", b"",
)  # fmt: skip

timestamps: Final = st.sampled_from([-1, 0, -(2**63), 2**63 - 1, 1_764_000_000_000_000, 10**15]) | st.integers(
    -(2**63), 2**63 - 1
)
header_names: Final = st.sampled_from(_NAMES) | st.binary(max_size=6).map(lambda name: name.decode(errors="replace"))
_header_values: Final = st.sampled_from(_ODD_TIMES) | st.binary(max_size=200) | st.text(max_size=200).map(str.encode)


def envelope_headers(event_id: str) -> Headers:
    """Return the headers of a good event."""
    return Envelope(event_id, _TYPE, datetime(2026, 11, 24, tzinfo=UTC), "sg_1").headers()


@st.composite
def _headers(draw: st.DrawFn) -> Headers:
    """Return the headers of a good event with a few others, and some of them replaced or left out."""
    headers = dict(envelope_headers(f"evt-{draw(st.integers(0, 10**9))}"))
    for name in draw(st.lists(st.sampled_from(_NAMES), max_size=3)):
        if draw(st.booleans()):
            headers[name] = draw(_header_values)
        else:
            headers.pop(name, None)
    return (*headers.items(), *draw(st.lists(st.tuples(header_names, _header_values), max_size=3)))


def _odd_body(number: int) -> bytes:
    return _ODD_BODIES[number]


def _long_key(length: int) -> bytes:
    return b"k" * length


hostile_records: Final = st.builds(
    Record,
    st.just("sharegram.performer.v1"),
    st.just(0),
    st.just(0),
    timestamps,
    st.binary(max_size=50) | st.integers(30_000, 40_000).map(_long_key),
    st.integers(0, len(_ODD_BODIES) - 1).map(_odd_body) | st.binary(max_size=100),
    _headers(),
)


class FuzzedProcessor:
    """The processor of `sync-worker` on a database. `process` is for callers outside of the event loop."""

    def __init__(self, runner: asyncio.Runner, database: Database, logs: LogSink) -> None:
        self._runner = runner
        self._database = database
        self._offsets = count()
        handler = PerformerHandler(utc_now, RecordingInvalidator())
        consumer: ConsumerContext[PerformerEvent, PerformerStates] = ConsumerContext(
            _GROUP, handler, database, Backoff(1.0, 8.0), utc_now, build_logger(_GROUP, logs),
            ConsumerMetrics(CollectorRegistry()), DlqLimit(1.0, 1000, 100),
        )  # fmt: skip
        self._live = BatchProcessor(consumer, LivePolicy(consumer))
        self._replay = BatchProcessor(consumer, MissingOnly(consumer))

    def process(self, records: Sequence[Record]) -> None:
        """Process the records with a good event behind them, and again as a redelivery and as a replay.

        Raise an error if the processor does not get to the good event, or if a record has no row.
        """
        self._runner.run(self._process([each._replace(offset=next(self._offsets)) for each in records]))

    async def _process(self, hostile: list[Record]) -> None:
        offset = next(self._offsets)
        good = Record(
            "sharegram.performer.v1", 0, offset, 1_764_000_000_000, b"sg_1",
            b'{"data":{"performerId":"sg_1","changes":{"bio":"good"}}}', envelope_headers(f"good-{offset}"),
        )  # fmt: skip
        deliveries = [delivery_of(each) for each in (*hostile, good)]
        for processor in (self._live, self._live, self._replay):
            await processor.process(deliveries)
        async with self._database.read_connection() as reading:
            found = await reading.execute(select(event_inbox.c.event_id, event_inbox.c.status))
            rows = {row.event_id: row.status for row in found}
        assert rows[f"good-{offset}"] == "applied", "the good event behind the records is not applied"
        for each in deliveries:
            position = f"{each.topic}/{each.partition}/{each.offset}"
            assert {each.envelope.id, position} & rows.keys(), f"the record at {position} has no row"


@contextmanager
def fuzzed_processor(folder: Path, url: str) -> Iterator[FuzzedProcessor]:
    """Open a processor on the migrated database of `url`. Its logs are in `folder`."""
    logs = LogSink(folder / "logs", stdout=False)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        database = runner.run(stack.enter_async_context(Database.open(url)))
        try:
            yield FuzzedProcessor(runner, database, logs)
        finally:
            runner.run(stack.aclose())
            logs.close()
