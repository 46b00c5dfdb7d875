"""Defects of the relay that its tests must detect, on each stack."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from safevideo_common.outbox import store as outbox_store
from safevideo_common.outbox.relay import OutboxRelay, RelayLeaseLost
from safevideo_common.outbox.store import OutboxMessage
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.relay import RelayHarness, SimulatedCrash
from safevideo_testkit.mutations import Mutation, assert_detected


async def crash_before_publishing_keeps_the_rows(harness: RelayHarness) -> None:
    def crash(_: int) -> None:
        raise SimulatedCrash

    before = await harness.depth()
    await harness.record("a", "b", "c")
    async with harness.relay() as (relay, publisher):
        await relay.lease.acquire()
        publisher.before = crash
        with pytest.raises(SimulatedCrash):
            await relay.relay()
        await relay.lease.release()
    assert await harness.depth() == before + 3


async def relay_that_lost_its_lease_deletes_nothing(harness: RelayHarness) -> None:
    await harness.record("a", "b", "c")
    async with harness.relay(lease_seconds=0.2) as (frozen, publisher), harness.relay() as (other, _):
        await frozen.lease.acquire()
        publisher.resumed.clear()
        batch = asyncio.create_task(frozen.relay())
        await eventually(other.lease.acquire)
        publisher.resumed.set()
        await asyncio.wait([batch])
        await other.lease.release()
        rows = await harness.depth()
        assert isinstance(batch.exception(), RelayLeaseLost)
        assert rows >= 3


async def deletes_first(self: OutboxRelay, batch: Sequence[OutboxMessage]) -> Sequence[OutboxMessage]:
    await self._remove(batch)
    await self.producer.publish_batch([each.message for each in batch])
    return []


async def deletes_without_lease(self: OutboxRelay, messages: Sequence[OutboxMessage]) -> None:
    async with self.database.transaction() as tx:
        await outbox_store.remove(tx, [each.row_id for each in messages])


@pytest.mark.parametrize(
    ("mutation", "scenario"),
    [
        (
            Mutation("the relay deletes before it publishes", OutboxRelay, "_publish", deletes_first),
            crash_before_publishing_keeps_the_rows,
        ),
        (
            Mutation(
                "the relay does not renew its lease with the delete", OutboxRelay, "_delete", deletes_without_lease
            ),
            relay_that_lost_its_lease_deletes_nothing,
        ),
    ],
    ids=["deletes_before_it_publishes", "deletes_without_its_lease"],
)
async def test_defect_of_the_relay_is_detected(
    harness: RelayHarness, mutation: Mutation, scenario: Callable[[RelayHarness], Awaitable[None]]
) -> None:
    await assert_detected(mutation, lambda: scenario(harness))
