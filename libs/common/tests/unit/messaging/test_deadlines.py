import asyncio
import time
from contextlib import closing

import pytest

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.deadlines import Deadlines


def _future() -> "asyncio.Future[int]":
    return asyncio.get_running_loop().create_future()


async def test_a_future_that_is_not_done_in_time_fails() -> None:
    with closing(Deadlines(0.05)) as deadlines:
        deadlines.watch(late := _future())
        with pytest.raises(LogUnavailable) as failure:
            await late
    assert failure.value.retry_after


async def test_a_future_that_is_done_in_time_keeps_its_result() -> None:
    with closing(Deadlines(0.05)) as deadlines:
        deadlines.watch(early := _future())
        early.set_result(7)
        deadlines.watch(late := _future())
        with pytest.raises(LogUnavailable):
            await late
    assert await early == 7


async def test_each_future_has_its_own_time() -> None:
    with closing(Deadlines(0.2)) as deadlines:
        deadlines.watch(first := _future())
        await asyncio.wait([first], timeout=0.1)
        began = time.monotonic()
        deadlines.watch(second := _future())
        await asyncio.wait([first, second])
    assert time.monotonic() - began >= 0.19
    assert all(isinstance(each.exception(), LogUnavailable) for each in (first, second))


async def test_the_clock_starts_again_after_a_time_without_futures() -> None:
    with closing(Deadlines(0.02)) as deadlines:
        for _ in range(3):
            deadlines.watch(future := _future())
            with pytest.raises(LogUnavailable):
                await future


async def test_closing_fails_what_is_open() -> None:
    deadlines = Deadlines(60)
    deadlines.watch(future := _future())
    deadlines.close()
    with pytest.raises(LogUnavailable):
        await future
