"""Releasing while the log fails, and other bad moments: real rows, and a publisher that fails where it is told to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.quarantine.reverify import RUN_SECONDS, ReverifyReport, ReverifyRequest, ReverifyService
from safevideo_common.audit.store import Caller
from safevideo_common.broker.port import Broker, Producer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_common.webhooks.signatures import WebhookSecret
from safevideo_testkit.eventually import DEADLINE_SECONDS

Quarantine = Any  # of this folder's conftest.py
ALL = ReverifyRequest(None, None, dry_run=False)


class Published:
    """A log that takes everything but the events it is told to fail on."""

    def __init__(self) -> None:
        self.fails: dict[str, Exception] = {}
        self.ids: list[str] = []

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        event_id = dict(message.headers)["ce_id"].decode()
        await asyncio.sleep(0)
        if event_id in self.fails:
            raise self.fails[event_id]
        self.ids.append(event_id)
        return TopicPartition(message.topic, 0), len(self.ids)


class Clock:
    """Each look at it is so many seconds later."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def reverify_with(
    quarantine: Quarantine, publisher: Producer, secret: str = "the-secret-as-mended", step: float = 0.0
) -> ReverifyService:
    async def present() -> Sequence[WebhookSecret]:
        return [WebhookSecret("present", secret.encode())]

    return ReverifyService(
        quarantine.database, publisher, quarantine.cipher, "any", present, clock=utc_now, seconds=Clock(step)
    )


@pytest.fixture
def published() -> Published:
    return Published()


async def interleaved(quarantine: Quarantine, number: int) -> list[int]:
    """Two performers in turn: even ones are of the first."""
    body = b'{"event": "performer.status.changed", "timestamp": "2026-11-24T12:00:00Z", "data": {"performerId": "%s"}}'
    return [await quarantine.keep(body % (b"sg_a", b"sg_b")[each % 2]) for each in range(number)]


async def test_reverify_marks_acknowledged_webhooks_and_continues_in_the_next_run(
    quarantine: Quarantine, published: Published, caller: Caller
) -> None:
    row_ids = await interleaved(quarantine, 6)
    reverify = reverify_with(quarantine, published)
    published.fails["evt-2"] = BrokerUnavailable("Kafka is away.", retry_after=5)
    with pytest.raises(BrokerUnavailable):
        await reverify.run(ALL, caller)
    assert sorted(published.ids) == ["evt-0", "evt-1", "evt-3", "evt-5"], "none of the performer's after the failure"
    assert await quarantine.released() == [row_ids[each] for each in (0, 1, 3, 5)]
    released, summary = await quarantine.audited()
    assert released.details["ids"] == [row_ids[each] for each in (0, 1, 3, 5)]
    assert (summary.details["released"], summary.details["complete"]) == (4, False)
    published.fails.clear()
    assert (await reverify.run(ALL, caller)).released == [row_ids[2], row_ids[4]]
    assert published.ids[4:] == ["evt-2", "evt-4"]


async def test_reverify_skips_a_webhook_that_is_too_large_for_its_topic(
    quarantine: Quarantine, published: Published, caller: Caller
) -> None:
    await quarantine.keep_many(3)
    published.fails["evt-1"] = PayloadTooLarge("The topic takes no message of this size.")
    report = await reverify_with(quarantine, published).run(ALL, caller)
    assert (published.ids, len(report.released)) == (["evt-0", "evt-2"], 2)


async def test_reverify_publishes_again_with_the_same_ids_after_a_crash(
    quarantine: Quarantine, published: Published, caller: Caller
) -> None:
    await quarantine.keep_many(2)
    published.fails["evt-1"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await reverify_with(quarantine, published).run(ALL, caller)
    assert await quarantine.released() == []
    published.fails.clear()
    await reverify_with(quarantine, published).run(ALL, caller)
    assert published.ids == ["evt-0", "evt-0", "evt-1"]


async def test_concurrent_runs_release_once(quarantine: Quarantine, published: Published, caller: Caller) -> None:
    await quarantine.keep_many(5)
    reverify = reverify_with(quarantine, published)
    await asyncio.gather(*(reverify.run(ALL, caller) for _ in range(3)))
    assert published.ids == [f"evt-{number}" for number in range(5)]


async def test_reverify_stops_after_its_time_and_reports_incomplete(
    quarantine: Quarantine, published: Published, caller: Caller
) -> None:
    row_ids = await quarantine.keep_many(150)
    slow = reverify_with(quarantine, published, step=RUN_SECONDS * 0.6)
    first = await slow.run(ALL, caller)
    assert (first.is_complete, first.released) == (False, row_ids[:100])
    second = await slow.run(ALL, caller)
    assert (second.is_complete, second.released) == (True, row_ids[100:])


async def test_reverify_splits_large_bodies_into_small_batches(
    quarantine: Quarantine, published: Published, caller: Caller
) -> None:
    body = b'{"event": "x", "timestamp": "2026-11-24T12:00:00Z", "data": {}}' + b" " * 1_000_000
    for number in range(12):
        await quarantine.keep(body + b" " * number)
    report: ReverifyReport = await reverify_with(quarantine, published).run(ALL, caller)
    assert (report.is_complete, len(report.released)) == (True, 12)


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_reverify_keeps_the_order_of_each_performer_on_a_real_broker(
    quarantine: Quarantine, broker: Broker, caller: Caller, database: Database
) -> None:
    performers = [f"sg_{id(quarantine)}_{each}" for each in range(3)]
    for number in range(60):
        await quarantine.keep_many(1, performers[number % 3])
    async with broker.producer("test") as publisher:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                try:
                    await reverify_with(quarantine, publisher).run(ALL, caller)
                    break
                except BrokerUnavailable:  # it is still connecting
                    await asyncio.sleep(0.1)
    async with broker.reader("test") as reader:
        ends = await reader.end_offsets("sharegram.performer.v1")
        found = [record for place, end in ends.items() for record in await reader.read(place, max(0, end - 200), 200)]
    for place, performer in enumerate(performers):
        ids = [dict(record.headers)["ce_id"].decode() for record in found if record.key == performer.encode()]
        assert ids == [f"evt-{number}" for number in range(60) if number % 3 == place]
