"""The identity of events: reused ids, renamed bodies, and further deliveries of both."""

import re

from sqlalchemy import select

from safevideo_common.database.tables import event_inbox
from safevideo_common.inbox.handler import Delivery
from safevideo_common.inbox.store import redrive as inbox_redrive
from safevideo_common.inbox.store.redrive import RedriveFilter
from safevideo_testkit.harness.processor import ProcessorHarness, sample_event


def unsigned(performer_id: str, word: str, event_id: str) -> Delivery:
    delivery = sample_event(performer_id, word, event_id=event_id)
    return delivery._replace(envelope=delivery.envelope._replace(is_id_signed=False))


async def rows(harness: ProcessorHarness) -> list[tuple[str, str, int]]:
    c = event_inbox.c
    async with harness.consumer.database.read_connection() as reading:
        found = await reading.execute(select(c.event_id, c.status, c.duplicates).order_by(c.id))
        return [(re.sub("#.*", "#", event_id), status, repeats) for event_id, status, repeats in found]


def id_conflicts(harness: ProcessorHarness) -> float | None:
    return harness.registry.get_sample_value("safevideo_event_id_conflicts_total")


async def test_reused_id_with_another_body_is_a_dead_event_of_its_own(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_id="evt"), sample_event("sg_1", "b", event_id="evt"))
    await harness.process(sample_event("sg_1", "c", event_id="evt"), sample_event("sg_1", "d"))
    assert await harness.words() == {"sg_1": "a d"}
    assert (await rows(harness))[:3] == [("evt", "applied", 0), ("evt#", "dead", 0), ("evt#", "dead", 0)]
    assert [reason.partition(":")[0] for reason in await harness.reasons()] == ["", "ID_CONFLICT", "ID_CONFLICT", ""]
    assert id_conflicts(harness) == 2


async def test_conflict_is_recognised_when_it_comes_again(harness: ProcessorHarness) -> None:
    for _ in range(2):
        await harness.process(sample_event("sg_1", "a", event_id="evt"), sample_event("sg_1", "b", event_id="evt"))
    await harness.process(sample_event("sg_1", "b", event_id="evt"))
    assert await rows(harness) == [("evt", "applied", 1), ("evt#", "dead", 2)]
    assert id_conflicts(harness) == 1


async def test_redriven_conflict_is_applied(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_id="evt"), sample_event("sg_1", "b", event_id="evt"))
    async with harness.consumer.database.transaction() as tx:
        dead = await inbox_redrive.redrivable(tx, RedriveFilter(reason="ID_CONFLICT"), harness.now, 10)
        await inbox_redrive.requeue(tx, dead, harness.now)
    await harness.scan_after(10)
    assert await harness.words() == {"sg_1": "a b"}
    assert [status for status, _ in await harness.outcomes()] == ["applied", "applied"]


async def test_signed_ids_with_the_same_body_are_two_events(harness: ProcessorHarness) -> None:
    await harness.process(sample_event("sg_1", "a", event_id="evt_1"), sample_event("sg_1", "a", event_id="evt_2"))
    assert await harness.words() == {"sg_1": "a a"}


async def test_unsigned_ids_with_the_same_body_are_one_event(harness: ProcessorHarness) -> None:
    await harness.process(unsigned("sg_1", "a", "evt_1"), unsigned("sg_1", "a", "evt_2"))
    await harness.process(unsigned("sg_1", "a", "evt_3"))
    await harness.process(sample_event("sg_1", "b", event_id="evt_2"), unsigned("sg_1", "c", "evt_3"))
    assert await harness.words() == {"sg_1": "a b c"}
    assert await rows(harness) == [("evt_1", "applied", 2), ("evt_2", "applied", 0), ("evt_3", "applied", 0)]


async def test_captured_body_under_a_taken_id_is_a_duplicate_of_its_first_delivery(harness: ProcessorHarness) -> None:
    await harness.process(unsigned("sg_1", "a", "evt_1"), unsigned("sg_1", "b", "evt_2"))
    await harness.process(unsigned("sg_1", "a", "evt_2"))
    assert await rows(harness) == [("evt_1", "applied", 1), ("evt_2", "applied", 0)]


async def test_squatted_id_hides_no_event(harness: ProcessorHarness) -> None:
    """The first delivery of a body came under an id that the sender uses later for another event."""
    await harness.process(unsigned("sg_1", "a", "evt_9"))
    await harness.process(unsigned("sg_1", "a", "evt_1"), unsigned("sg_1", "b", "evt_9"))
    assert await rows(harness) == [("evt_9", "applied", 1), ("evt_9#", "dead", 0)]
    await harness.process(unsigned("sg_1", "b", "evt_10"))
    assert await rows(harness) == [("evt_9", "applied", 1), ("evt_9#", "dead", 1)]


async def test_conflict_of_the_longest_id_fits_into_its_column(harness: ProcessorHarness) -> None:
    name = "e" * 128
    await harness.process(sample_event("sg_1", "a", event_id=name), sample_event("sg_1", "b", event_id=name))
    assert [status for _, status, _ in await rows(harness)] == ["applied", "dead"]
