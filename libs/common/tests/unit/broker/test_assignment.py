"""When claims end. With a real group: `integration/broker/test_kafka_groups.py`."""

import asyncio

import pytest

from safevideo_common.broker.kafka.assignment import FROZEN_SECONDS, Assignment
from safevideo_common.broker.port import PartitionsLost


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
