"""One transaction for the inbox row and the effect: what that gives, on each database."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from safevideo_common.broker.port import PartitionsLost
from safevideo_common.broker.types import Record
from safevideo_common.database.engine import Database
from safevideo_common.inbox.dead_letters import DlqRateExceeded
from safevideo_common.inbox.handler import delivery_of
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.processor import ProcessorHarness, sample_event


async def test_a_batch_is_applied_in_order(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a"), sample_event("sg_2", "x"), sample_event("sg_1", "b"))
    assert await harness.words() == {"sg_1": "a b", "sg_2": "x"}


async def test_an_event_delivered_twice_has_one_effect_and_is_counted(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=1))
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=2))
    assert await harness.words() == {"sg_1": "a"}
    assert await harness.duplicates() == [1]


async def test_an_event_twice_in_one_batch_has_one_effect(harness: ProcessorHarness) -> None:
    await harness.process(
        sample_event("sg_1", "a", event_id="evt", offset=1), sample_event("sg_1", "a", event_id="evt", offset=2)
    )
    assert await harness.words() == {"sg_1": "a"}
    assert await harness.duplicates() == [1]


async def test_a_record_read_twice_is_no_duplicate(harness: ProcessorHarness) -> None:
    batch = [sample_event("sg_1", "a"), sample_event("sg_1", "b")]
    await harness.process(*batch)
    await harness.process(*batch)
    assert await harness.words() == {"sg_1": "a b"}
    assert await harness.duplicates() == [0, 0]


async def test_what_follows_a_commit_follows_a_redelivery_too(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=1))
    harness.handler.committed.clear()
    await harness.process(sample_event("sg_1", "a", event_id="evt", offset=1))
    assert harness.handler.committed == ["sg_1"]


async def test_a_faulty_event_costs_only_itself(harness: ProcessorHarness) -> None:
    await harness.process(
        sample_event("sg_1", "a"), sample_event("sg_1", "explode"), sample_event("sg_2", "x"), sample_event("sg_1", "b")
    )
    assert await harness.words() == {"sg_1": "a b", "sg_2": "x"}
    assert await harness.outcomes() == [("applied", "sg_1"), ("dead", "sg_1"), ("applied", "sg_2"), ("applied", "sg_1")]


async def test_a_death_is_told_with_its_kind_and_without_its_words(harness: ProcessorHarness, logs: Path) -> None:
    await harness.process(sample_event("sg_1", "explode", event_id="evt-dead"))
    assert await harness.reasons() == ["HANDLER_FAILED: ZeroDivisionError"]
    (line,) = (logs / "error.log").read_text().splitlines()
    assert line.split()[4] == "HANDLER_FAILED"
    assert "evt-dead" in line
    assert "secret" not in line


async def test_an_event_of_an_unknown_kind_is_ignored_and_kept(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_type="never.heard.of"))
    assert await harness.outcomes() == [("ignored", "sg_1")]
    assert await harness.words() == {}


async def test_a_record_that_is_no_event_is_dead_under_the_name_of_its_place(harness: ProcessorHarness) -> None:
    await harness.process(delivery_of(Record("marks", 3, 17, 0, b"", b"hello", ())), sample_event("sg_1", "a"))
    assert await harness.outcomes() == [("dead", None), ("applied", "sg_1")]
    assert (await harness.reasons())[0].startswith("ENVELOPE_INVALID")


async def test_a_waiting_event_holds_back_those_of_its_performer_and_no_others(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(
        sample_event("sg_1", "a"), sample_event("sg_1", "wait"), sample_event("sg_1", "b"), sample_event("sg_2", "x")
    )
    await harness.process(sample_event("sg_1", "c"), sample_event("sg_2", "y"))
    assert await harness.words() == {"sg_1": "a", "sg_2": "x y"}
    assert [status for status, _ in await harness.outcomes()].count("waiting") == 3


async def test_two_members_at_the_same_events_have_one_effect(
    harness: ProcessorHarness, database: Database, log: FilteringBoundLogger
) -> None:
    """What a rebalance can bring: the old owner is still at a batch that the new one has read."""
    batch = [sample_event(f"sg_{number % 7}", str(number)) for number in range(50)]
    other = ProcessorHarness(database, log)
    await asyncio.gather(harness.process(*batch), other.process(*batch))
    expected = {f"sg_{each}": " ".join(str(n) for n in range(50) if n % 7 == each) for each in range(7)}
    assert await harness.words() == expected
    assert await harness.duplicates() == [0] * 50


async def test_a_batch_whose_claim_is_void_changes_nothing(harness: ProcessorHarness) -> None:
    with pytest.raises(PartitionsLost):
        await harness.processor.process([sample_event("sg_1", "a")], LostAfter(0))
    assert await harness.outcomes() == []


async def test_a_claim_that_ends_within_the_transaction_ends_the_transaction(harness: ProcessorHarness) -> None:
    with pytest.raises(PartitionsLost):
        await harness.processor.process([sample_event("sg_1", "a"), sample_event("sg_2", "x")], LostAfter(1))
    assert await harness.outcomes() == []
    assert await harness.words() == {}


async def test_a_release_that_buries_everything_stops_before_it_has_buried_much(harness: ProcessorHarness) -> None:
    with pytest.raises(DlqRateExceeded):
        await harness.process(*(sample_event(f"sg_{number}", "explode") for number in range(300)))
    assert Counter(status for status, _ in await harness.outcomes()) == {"dead": 99}


async def test_what_dies_of_its_tries_counts_as_well(harness: ProcessorHarness) -> None:
    harness.handler.is_open = False
    await harness.process(*(sample_event(f"sg_{number}", "wait") for number in range(120)))
    await harness.scan_after(100.0)
    with pytest.raises(DlqRateExceeded):
        await harness.scan_after(100.0)
    assert Counter(status for status, _ in await harness.outcomes())["dead"] == 99


class LostAfter:
    """A claim that ends after `checks` of them."""

    def __init__(self, checks: int) -> None:
        self._left = checks

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise PartitionsLost
