"""The batch processor: inbox row and effect in one transaction, on both database engines."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import PartitionsLost
from safevideo_common.broker.types import Record
from safevideo_common.database.engine import Database
from safevideo_common.inbox.dead_letters import DlqRateExceeded
from safevideo_common.inbox.handler import delivery_of
from safevideo_common.inbox.processor import BatchProcessor, Decisions, LivePolicy
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.processor import ProcessorHarness, sample_event


async def test_processor_applies_a_batch_in_order(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a"), sample_event("sg_2", "x"), sample_event("sg_1", "b"))
    assert await harness.words() == {"sg_1": "a b", "sg_2": "x"}


async def test_processor_applies_a_redelivered_event_once_and_counts_it(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=1))
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=2))
    assert await harness.words() == {"sg_1": "a"}
    assert await harness.duplicates() == [1]


async def test_processor_applies_an_event_twice_in_a_batch_once(harness: ProcessorHarness) -> None:
    await harness.process(
        sample_event("sg_1", "a", event_id="evt", offset=1), sample_event("sg_1", "a", event_id="evt", offset=2)
    )
    assert await harness.words() == {"sg_1": "a"}
    assert await harness.duplicates() == [1]


async def test_processor_does_not_count_a_record_read_again(harness: ProcessorHarness) -> None:
    batch = [sample_event("sg_1", "a"), sample_event("sg_1", "b")]
    await harness.process(*batch)
    await harness.process(*batch)
    assert await harness.words() == {"sg_1": "a b"}
    assert await harness.duplicates() == [0, 0]


@pytest.mark.parametrize(("seconds", "in_time"), [(1.0, 1), (60.0, 0)])
async def test_latency_counts_from_the_receipt_and_a_dead_event_is_not_in_it(
    harness: ProcessorHarness, seconds: float, in_time: int
) -> None:
    """A spooled event has the header of its receipt, and a young record."""
    event = sample_event("sg_1", "a")
    received = event._replace(
        envelope=event.envelope._replace(received_at=time() - seconds), received_at=datetime.now(UTC)
    )
    await harness.process(received, sample_event("sg_1", "explode"))
    found = {each.labels["le"]: each.value for each in harness.samples("safevideo_event_latency_seconds_bucket")}
    assert (found["5.0"], found["+Inf"]) == (in_time, 1)


async def test_after_commit_is_called_after_a_redelivery(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=1))
    harness.handler.committed.clear()
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=1))
    assert harness.handler.committed == ["sg_1"]


async def test_processor_dead_letters_only_the_failing_event(harness: ProcessorHarness) -> None:
    await harness.process(
        sample_event("sg_1", "a"), sample_event("sg_1", "explode"), sample_event("sg_2", "x"), sample_event("sg_1", "b")
    )
    assert await harness.words() == {"sg_1": "a b", "sg_2": "x"}
    assert await harness.outcomes() == [("applied", "sg_1"), ("dead", "sg_1"), ("applied", "sg_2"), ("applied", "sg_1")]


async def test_dead_letter_log_has_the_error_type_without_its_message(harness: ProcessorHarness, logs: Path) -> None:
    await harness.process(sample_event("sg_1", "explode", event_id="evt-dead"))
    assert await harness.reasons() == ["HANDLER_FAILED: ZeroDivisionError"]
    (line,) = (logs / "error.log").read_text().splitlines()
    assert line.split()[4] == "HANDLER_FAILED"
    assert "evt-dead" in line
    assert "secret" not in line


async def test_processor_records_an_unknown_type_as_ignored(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_type="never.heard.of"))
    assert await harness.outcomes() == [("ignored", "sg_1")]
    assert await harness.words() == {}


async def test_processor_dead_letters_a_record_without_envelope_under_its_position(harness: ProcessorHarness) -> None:
    await harness.process(delivery_of(Record("marks", 3, 17, 0, b"", b"hello", ())), sample_event("sg_1", "a"))
    assert await harness.outcomes() == [("dead", None), ("applied", "sg_1")]
    assert (await harness.reasons())[0].startswith("ENVELOPE_INVALID")


async def test_waiting_event_blocks_only_its_performer(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(
        sample_event("sg_1", "a"), sample_event("sg_1", "wait"), sample_event("sg_1", "b"), sample_event("sg_2", "x")
    )
    await harness.process(sample_event("sg_1", "c"), sample_event("sg_2", "y"))
    assert await harness.words() == {"sg_1": "a", "sg_2": "x y"}
    assert [status for status, _ in await harness.outcomes()].count("waiting") == 3


async def test_two_members_apply_the_same_batch_once(
    harness: ProcessorHarness, database: Database, log: FilteringBoundLogger
) -> None:
    """After a rebalance the old owner may still process a batch that the new owner has read."""
    batch = [sample_event(f"sg_{number % 7}", str(number)) for number in range(50)]
    other = ProcessorHarness(database, log)
    await asyncio.gather(harness.process(*batch), other.process(*batch))
    expected = {f"sg_{each}": " ".join(str(n) for n in range(50) if n % 7 == each) for each in range(7)}
    assert await harness.words() == expected
    assert await harness.duplicates() == [0] * 50


async def test_processor_changes_nothing_after_the_claim_is_lost(harness: ProcessorHarness) -> None:
    with pytest.raises(PartitionsLost):
        await harness.processor.process([sample_event("sg_1", "a")], LostAfter(0))
    assert await harness.outcomes() == []


async def test_processor_rolls_back_if_the_claim_is_lost_in_the_transaction(harness: ProcessorHarness) -> None:
    with pytest.raises(PartitionsLost):
        await harness.processor.process([sample_event("sg_1", "a"), sample_event("sg_2", "x")], LostAfter(1))
    assert await harness.outcomes() == []
    assert await harness.words() == {}


async def test_dlq_limit_stops_a_broken_release(harness: ProcessorHarness) -> None:
    with pytest.raises(DlqRateExceeded):
        await harness.process(*(sample_event(f"sg_{number}", "explode") for number in range(300)))
    assert Counter(status for status, _ in await harness.outcomes()) == {"dead": 99}


async def test_dlq_limit_of_retries_counts_exhausted_events_and_leaves_the_live_flow_alone(
    harness: ProcessorHarness,
) -> None:
    harness.handler.is_open = False
    await harness.process(*(sample_event(f"sg_{number}", "wait") for number in range(120)))
    await harness.scan_after(100.0)
    with pytest.raises(DlqRateExceeded):
        await harness.scan_after(100.0)
    assert Counter(status for status, _ in await harness.outcomes())["dead"] == 99
    await harness.process(
        sample_event("sg_live", "a"), sample_event("sg_live", "explode"), sample_event("sg_live", "b")
    )
    assert (await harness.words())["sg_live"] == "a b"


async def test_around_commit_is_entered_before_the_commit_and_left_after_it(harness: ProcessorHarness) -> None:
    outcomes: list[object] = []

    @asynccontextmanager
    async def around_commit(_: AsyncConnection, decisions: Decisions) -> AsyncIterator[None]:
        outcomes.append((await harness.outcomes(), len(decisions.new)))
        yield
        outcomes.append(await harness.outcomes())

    processor = BatchProcessor(harness.consumer, LivePolicy(harness.consumer), around_commit)
    await processor.process([sample_event("sg_1", "a")])
    assert outcomes == [([], 1), [("applied", "sg_1")]]


async def test_interruption_of_around_commit_rolls_back_and_dead_letters_nothing(harness: ProcessorHarness) -> None:
    class Interrupted(Exception):
        pass

    @asynccontextmanager
    async def around_commit(_: AsyncConnection, decisions: Decisions) -> AsyncIterator[None]:
        if decisions.new:
            raise Interrupted
        yield

    processor = BatchProcessor(harness.consumer, LivePolicy(harness.consumer), around_commit, (Interrupted,))
    with pytest.raises(Interrupted):
        await processor.process([sample_event("sg_1", "a"), sample_event("sg_2", "x")])
    assert (await harness.outcomes(), await harness.words(), harness.handler.committed) == ([], {}, [])


class LostAfter:
    """A claim that is lost after a number of checks."""

    def __init__(self, checks: int) -> None:
        self._left = checks

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise PartitionsLost
