"""The liveness of consume loops."""

import pytest

from safevideo_common.errors import ServiceUnavailable
from safevideo_common.inbox.consume_loop import STALLED_SECONDS, ConsumerLiveness


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> ConsumerLiveness:
    return ConsumerLiveness(clock)


async def test_liveness_fails_if_one_loop_has_no_iteration(liveness: ConsumerLiveness, clock: Clock) -> None:
    stuck, turning = liveness.start(), liveness.start()
    clock.seconds += STALLED_SECONDS + 1
    turning.record_iteration()
    with pytest.raises(ServiceUnavailable, match="stuck"):
        await liveness.check()
    stuck.record_iteration()
    await liveness.check()


async def test_liveness_fails_if_a_loop_with_lag_fetches_nothing(liveness: ConsumerLiveness, clock: Clock) -> None:
    loop = liveness.start()
    loop.update_lag(5)
    clock.seconds += STALLED_SECONDS + 1
    loop.record_iteration()
    loop.update_lag(5)
    with pytest.raises(ServiceUnavailable, match="gets none"):
        await liveness.check()


async def test_liveness_holds_if_a_loop_without_lag_fetches_nothing(liveness: ConsumerLiveness, clock: Clock) -> None:
    loop = liveness.start()
    loop.update_lag(5)
    loop.update_lag(0)
    clock.seconds += STALLED_SECONDS + 1
    loop.record_iteration()
    await liveness.check()


async def test_liveness_holds_if_a_loop_with_lag_fetches_records(liveness: ConsumerLiveness, clock: Clock) -> None:
    loop = liveness.start()
    loop.update_lag(5)
    clock.seconds += STALLED_SECONDS + 1
    loop.record_iteration()
    loop.record_fetch()
    loop.update_lag(5)
    await liveness.check()


async def test_halted_consumer_is_alive_and_not_ready(liveness: ConsumerLiveness, clock: Clock) -> None:
    liveness.start()
    await liveness.check_consuming()
    liveness.halt("100 of the last 100 events would be dead")
    clock.seconds += STALLED_SECONDS + 1
    await liveness.check()
    with pytest.raises(ServiceUnavailable, match="halted: 100 of the last 100"):
        await liveness.check_consuming()
