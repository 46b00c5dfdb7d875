import asyncio
from contextlib import closing

import pytest

from safevideo_common.broker.delivery import DeliveryTimeouts, wait_all
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.virtual_time import in_virtual_time


def _future() -> "asyncio.Future[int]":
    return asyncio.get_running_loop().create_future()


@in_virtual_time
async def test_future_fails_at_its_deadline() -> None:
    with closing(DeliveryTimeouts(0.05)) as timeouts:
        timeouts.watch(late := _future())
        with pytest.raises(BrokerUnavailable) as failure:
            await late
    assert failure.value.retry_after


@in_virtual_time
async def test_future_keeps_its_result_if_it_is_done_in_time() -> None:
    with closing(DeliveryTimeouts(0.05)) as timeouts:
        timeouts.watch(early := _future())
        early.set_result(7)
        timeouts.watch(late := _future())
        with pytest.raises(BrokerUnavailable):
            await late
    assert await early == 7


@in_virtual_time
async def test_each_future_has_its_own_deadline() -> None:
    loop = asyncio.get_running_loop()
    with closing(DeliveryTimeouts(2.0)) as timeouts:
        began = loop.time()
        timeouts.watch(first := _future())
        await asyncio.wait([first], timeout=0.5)
        timeouts.watch(second := _future())
        await asyncio.wait([first])
        assert loop.time() - began == pytest.approx(2.0)
        assert not second.done()
        await asyncio.wait([second])
        assert loop.time() - began == pytest.approx(2.5)
    assert all(isinstance(each.exception(), BrokerUnavailable) for each in (first, second))


@in_virtual_time
async def test_timer_starts_again_after_a_time_without_futures() -> None:
    with closing(DeliveryTimeouts(0.02)) as timeouts:
        for _ in range(3):
            timeouts.watch(future := _future())
            with pytest.raises(BrokerUnavailable):
                await future


async def test_close_fails_open_futures() -> None:
    timeouts = DeliveryTimeouts(60)
    timeouts.watch(future := _future())
    timeouts.close()
    with pytest.raises(BrokerUnavailable):
        await future


@in_virtual_time
async def test_futures_of_one_batch_fail_in_one_step() -> None:
    seen: list[tuple[bool, ...]] = []
    with closing(DeliveryTimeouts(0.05)) as timeouts:
        timeouts.watch(*(together := [_future() for _ in range(5)]))
        for each in together:
            each.add_done_callback(lambda _: seen.append(tuple(other.done() for other in together)))
        await asyncio.wait(together)
    assert seen == [(True,) * 5] * 5
    assert all(isinstance(each.exception(), BrokerUnavailable) for each in together)


async def test_wait_all_returns_when_the_last_future_is_done() -> None:
    futures = [_future() for _ in range(3)]
    waiting = asyncio.ensure_future(wait_all(futures))
    for each in reversed(futures):
        await asyncio.sleep(0)
        assert not waiting.done()
        each.set_result(0)
    await waiting


async def test_wait_all_returns_the_error_of_each_future() -> None:
    futures = [_future() for _ in range(3)]
    waiting = asyncio.ensure_future(wait_all(futures))
    futures[1].set_exception(gone := BrokerUnavailable("gone"))
    await asyncio.sleep(0)
    futures[0].set_result(0)
    futures[2].set_result(0)
    assert await waiting == [None, gone, None]


async def test_wait_all_cancels_all_in_one_step_when_it_is_cancelled() -> None:
    seen: list[tuple[bool, ...]] = []
    futures = [_future() for _ in range(3)]
    futures[0].add_done_callback(lambda _: seen.append(tuple(each.cancelled() for each in futures)))
    waiting = asyncio.ensure_future(wait_all(futures))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert seen == [(True, True, True)]
