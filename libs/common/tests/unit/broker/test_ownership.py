"""When the claim to what was fetched ends. With a real group: `integration/messaging/test_kafka_groups.py`."""

import asyncio

import pytest

from safevideo_common.broker.kafka.assignment import FROZEN_SECONDS, Assignment
from safevideo_common.broker.port import PartitionsLost
from safevideo_testkit.eventually import DEADLINE_SECONDS


async def test_a_process_that_stood_still_has_lost_its_claim_at_the_first_look() -> None:
    seconds = [0.0]
    ownership = Assignment(lambda: seconds[0])
    with ownership.hold() as claim:
        claim.check()
        seconds[0] += FROZEN_SECONDS + 1
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_a_process_that_stood_still_has_lost_its_claim_also_when_the_timer_comes_first() -> None:
    seconds = [0.0]
    ownership = Assignment(lambda: seconds[0])
    with ownership.hold() as claim:
        seconds[0] += FROZEN_SECONDS + 1
        ownership.beat()
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_what_is_fetched_after_that_can_be_claimed() -> None:
    ownership = Assignment()
    ownership.lose()
    with ownership.hold() as claim:
        claim.check()


async def test_draining_ends_with_the_last_block_and_before_its_time() -> None:
    ownership = Assignment()
    async with asyncio.timeout(DEADLINE_SECONDS):
        with ownership.hold():
            with ownership.hold() as claim:
                drained = asyncio.create_task(ownership.drain(3600.0))
            claim.check()
        await drained
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_draining_ends_when_its_time_is_over() -> None:
    ownership = Assignment()
    with ownership.hold() as claim:
        await ownership.drain(0.01)
        with pytest.raises(PartitionsLost):
            claim.check()
