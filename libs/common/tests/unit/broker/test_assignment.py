"""When claims end. With a real group: `integration/broker/test_kafka_groups.py`."""

import asyncio

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from safevideo_common.broker.kafka.assignment import FROZEN_SECONDS, Assignment
from safevideo_common.broker.kafka.consumer import ASSIGNORS
from safevideo_common.broker.port import PartitionShard, PartitionsLost


async def test_claim_ends_at_its_next_check_after_a_standstill() -> None:
    seconds = [0.0]
    assignment = Assignment(lambda: seconds[0])
    with assignment.hold() as claim:
        claim.check()
        seconds[0] += FROZEN_SECONDS + 1
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_claim_ends_after_a_standstill_if_the_timer_runs_first() -> None:
    seconds = [0.0]
    assignment = Assignment(lambda: seconds[0])
    with assignment.hold() as claim:
        seconds[0] += FROZEN_SECONDS + 1
        assignment.touch()
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_claim_of_a_new_generation_is_valid() -> None:
    assignment = Assignment()
    assignment.revoke()
    with assignment.hold() as claim:
        claim.check()


async def test_drain_ends_with_the_last_batch_before_its_deadline() -> None:
    assignment = Assignment()
    async with asyncio.timeout(5):
        with assignment.hold():
            with assignment.hold() as claim:
                drained = asyncio.create_task(assignment.drain(60.0))
            claim.check()
        await drained
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_drain_ends_at_its_deadline() -> None:
    assignment = Assignment()
    with assignment.hold() as claim:
        await assignment.drain(0.01)
        with pytest.raises(PartitionsLost):
            claim.check()


class TwoTopics:
    """What an assignor asks of the cluster."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(12))


@pytest.mark.parametrize("members", range(1, 7))
def test_each_shard_of_each_member_has_partitions(members: int) -> None:
    (assignor,) = ASSIGNORS
    metadata = ConsumerProtocolMemberMetadata(0, ["performer", "other"], b"")
    assigned = assignor.assign(TwoTopics(), {f"member-{number}": metadata for number in range(members)})
    for each in assigned.values():
        numbers = [number for _, partitions in each.assignment for number in partitions]
        assert all(any(PartitionShard(index, 2).contains(number) for number in numbers) for index in range(2))
