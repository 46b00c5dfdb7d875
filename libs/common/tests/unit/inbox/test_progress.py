"""When a process that consumes counts as stuck."""

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
def progress(clock: Clock) -> ConsumerLiveness:
    return ConsumerLiveness(clock)


async def test_one_loop_without_a_turn_is_enough(progress: ConsumerLiveness, clock: Clock) -> None:
    stuck, turning = progress.begin(), progress.begin()
    clock.seconds += STALLED_SECONDS + 1
    turning.turned()
    with pytest.raises(ServiceUnavailable, match="stuck"):
        await progress.check()
    stuck.turned()
    await progress.check()


async def test_a_loop_that_turns_and_eats_nothing_while_there_is_something_is_stuck(
    progress: ConsumerLiveness, clock: Clock
) -> None:
    loop = progress.begin()
    loop.sees(5)
    clock.seconds += STALLED_SECONDS + 1
    loop.turned()
    loop.sees(5)
    with pytest.raises(ServiceUnavailable, match="gets none"):
        await progress.check()


async def test_a_loop_with_nothing_ahead_may_eat_nothing(progress: ConsumerLiveness, clock: Clock) -> None:
    loop = progress.begin()
    loop.sees(5)
    loop.sees(0)
    clock.seconds += STALLED_SECONDS + 1
    loop.turned()
    await progress.check()


async def test_a_loop_that_eats_may_have_much_ahead(progress: ConsumerLiveness, clock: Clock) -> None:
    loop = progress.begin()
    loop.sees(5)
    clock.seconds += STALLED_SECONDS + 1
    loop.turned()
    loop.ate()
    loop.sees(5)
    await progress.check()


async def test_a_process_that_has_halted_is_alive_and_not_ready(progress: ConsumerLiveness, clock: Clock) -> None:
    progress.begin()
    await progress.check_consuming()
    progress.halt("100 of the last 100 events would be dead")
    clock.seconds += STALLED_SECONDS + 1
    await progress.check()
    with pytest.raises(ServiceUnavailable, match="halted: 100 of the last 100"):
        await progress.check_consuming()
