"""The breaker of several processes on a real Redis: when it opens, who may probe, and what happens without Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from safevideo_common.cache.redis import open_redis
from safevideo_common.errors import CircuitBreakerOpen
from safevideo_common.resilience.breaker.breaker import BreakerState, CircuitBreaker
from safevideo_common.resilience.breaker.state import BreakerPolicy, SharedBreakerState
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import DEADLINE_SECONDS

POLICY = BreakerPolicy(probes=2)
KEY = "breaker:{sharegram}"
START = 1_800_000_000.0


class Fleet:
    """Breakers of several processes, whose clocks and that of Redis move together."""

    def __init__(self, redis: Redis, log: FilteringBoundLogger) -> None:
        self.now = START
        self.redis = redis
        self.log = log

    def shared(self, redis: FailFastRedis | None = None) -> SharedBreakerState:
        fail_fast = redis or FailFastRedis(self.redis, seconds=DEADLINE_SECONDS, clock=lambda: self.now)
        now = "tonumber(redis.call('GET', 'clock'))"
        return SharedBreakerState(fail_fast, "sharegram", POLICY, jitter=float, now=now)

    def breaker(self, redis: FailFastRedis | None = None) -> CircuitBreaker:
        return CircuitBreaker("sharegram", self.shared(redis), self.log, POLICY, clock=lambda: self.now)

    async def breakers(self, number: int) -> list[CircuitBreaker]:
        breakers = [self.breaker() for _ in range(number)]
        await self.set_clock()
        await polled(breakers)
        return breakers

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        await self.set_clock()

    async def set_clock(self, ahead: float = 0) -> None:
        await self.redis.set("clock", self.now + ahead)


@pytest.fixture
async def fleet(redis: Redis, log: FilteringBoundLogger) -> Fleet:
    fleet = Fleet(redis, log)
    await fleet.set_clock()
    return fleet


async def polled(breakers: list[CircuitBreaker]) -> None:
    for _ in range(2):
        for breaker in breakers:
            await breaker.poll()


async def failing(breaker: CircuitBreaker, calls: int = 1) -> None:
    for _ in range(calls):
        (await breaker.acquire(30)).fail()


async def succeeding(breaker: CircuitBreaker, calls: int = 1) -> None:
    for _ in range(calls):
        (await breaker.acquire(30)).succeed()


async def opened(fleet: Fleet, breakers: list[CircuitBreaker]) -> None:
    await failing(breakers[0], 3)
    await failing(breakers[1], 2)
    await polled(breakers)
    assert states(breakers) == {BreakerState.OPEN}


def states(breakers: list[CircuitBreaker]) -> set[BreakerState]:
    return {breaker.state for breaker in breakers}


async def test_failures_of_several_processes_open_it_for_all(fleet: Fleet) -> None:
    breakers = await fleet.breakers(4)
    await opened(fleet, breakers)
    with pytest.raises(CircuitBreakerOpen) as rejection:
        await breakers[3].acquire(30)
    assert rejection.value.retry_after == 300


async def test_four_failures_do_not_open_it(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    await failing(breakers[0], 2)
    await failing(breakers[1], 2)
    await polled(breakers)
    assert states(breakers) == {BreakerState.CLOSED}
    await fleet.advance(61)
    await failing(breakers[1], 4)  # the older ones are outside of the window
    await polled(breakers)
    assert states(breakers) == {BreakerState.CLOSED}


async def test_one_per_cent_of_errors_never_opens_it(fleet: Fleet) -> None:
    breakers = await fleet.breakers(4)
    for step in range(240):  # two minutes; 100 calls a second
        for index, breaker in enumerate(breakers):
            await succeeding(breaker, 12)
            await failing(breaker, 1 if index == step % 8 else 0)
            await breaker.poll()
        await fleet.advance(0.5)
    assert states(breakers) == {BreakerState.CLOSED}


async def test_process_in_which_alone_calls_fail_opens_for_itself(fleet: Fleet) -> None:
    breakers = await fleet.breakers(3)
    await failing(breakers[0], 5)
    await polled(breakers)
    assert [breaker.state for breaker in breakers] == [BreakerState.OPEN, BreakerState.CLOSED, BreakerState.CLOSED]
    assert not breakers[0].status().is_shared
    await fleet.advance(300)
    (await breakers[0].acquire(30)).succeed()
    assert states([breakers[0]]) == {BreakerState.CLOSED}


async def test_only_process_opens_the_shared_state(fleet: Fleet) -> None:
    [breaker] = await fleet.breakers(1)
    await failing(breaker, 5)
    await breaker.poll()
    assert breaker.status().is_shared
    assert (await fleet.breakers(1))[0].state is BreakerState.OPEN


async def test_closed_and_open_need_no_redis(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    before = await commands(fleet.redis)
    await succeeding(breakers[0], 100)
    assert await commands(fleet.redis) == before
    await opened(fleet, breakers)
    before = await commands(fleet.redis)
    for _ in range(100):
        with pytest.raises(CircuitBreakerOpen):
            await breakers[0].acquire(30)
    assert await commands(fleet.redis) == before


async def commands(redis: Redis) -> object:
    return (await redis.info("commandstats")).get("cmdstat_evalsha")


async def test_exactly_the_permitted_probes_go_out(fleet: Fleet) -> None:
    breakers = await fleet.breakers(5)
    await opened(fleet, breakers)
    await fleet.advance(300)
    await polled(breakers)
    assert states(breakers) == {BreakerState.HALF_OPEN}
    results = await asyncio.gather(*(breaker.acquire(30) for breaker in breakers), return_exceptions=True)
    rejections = [each for each in results if isinstance(each, CircuitBreakerOpen)]
    assert len(rejections) == 3
    assert all(each.retry_after and each.retry_after <= 5 for each in rejections)


async def test_first_probe_that_succeeds_closes_it_for_all(fleet: Fleet) -> None:
    breakers = await fleet.breakers(3)
    await opened(fleet, breakers)
    await fleet.advance(300)
    first, second = await breakers[0].acquire(30), await breakers[1].acquire(30)
    first.succeed()
    await polled(breakers)
    assert states(breakers) == {BreakerState.CLOSED}
    second.fail()  # late: it says nothing about the new state
    await polled(breakers)
    assert states(breakers) == {BreakerState.CLOSED}
    assert breakers[0].status().failures == 0


async def test_probe_that_fails_opens_it_again(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    await opened(fleet, breakers)
    await fleet.advance(300)
    (await breakers[0].acquire(30)).fail()
    await polled(breakers)
    assert states(breakers) == {BreakerState.OPEN}
    assert breakers[1].status().retry_after == 300


async def test_rejections_prolong_nothing(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    await opened(fleet, breakers)
    await fleet.advance(299)
    for breaker in breakers:
        with pytest.raises(CircuitBreakerOpen):
            await breaker.acquire(30)
    await fleet.advance(1)
    await breakers[0].acquire(30)


async def test_cancelled_probe_gives_its_lease_back(fleet: Fleet) -> None:
    breakers = await fleet.breakers(3)
    await opened(fleet, breakers)
    await fleet.advance(300)
    probes = [await breakers[0].acquire(30), await breakers[1].acquire(30)]
    probes[0].release()
    await breakers[0].poll()
    await breakers[2].acquire(30)


async def test_lease_of_a_dead_prober_ends(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    await opened(fleet, breakers)
    await fleet.advance(300)
    late = [await breakers[0].acquire(30) for _ in range(2)]
    with pytest.raises(CircuitBreakerOpen):
        await breakers[1].acquire(30)
    await fleet.advance(36)
    probe = await breakers[1].acquire(30)
    late[0].succeed()
    await polled(breakers)
    assert states(breakers) == {BreakerState.HALF_OPEN}
    probe.succeed()
    await polled(breakers)
    assert states(breakers) == {BreakerState.CLOSED}


async def test_late_outcomes_are_ignored(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    early = await breakers[0].acquire(30)
    await opened(fleet, breakers)
    early.succeed()
    await polled(breakers)
    assert states(breakers) == {BreakerState.OPEN}
    await fleet.advance(300)
    (await breakers[1].acquire(30)).succeed()
    await polled(breakers)
    for _ in range(5):
        early.fail()
    await polled(breakers)
    assert states(breakers) == {BreakerState.CLOSED}
    assert breakers[0].status().failures == 0


async def test_open_state_survives_a_flush(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    await opened(fleet, breakers)
    await fleet.redis.delete(KEY)
    await polled(breakers)
    assert states([*breakers, *await fleet.breakers(2)]) == {BreakerState.OPEN}
    await fleet.advance(300)
    await polled(breakers)
    assert states(breakers) == {BreakerState.HALF_OPEN}


async def test_clock_set_back_by_an_hour_keeps_it_open_for_five_minutes(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    await opened(fleet, breakers)
    fleet.now -= 3600
    await fleet.set_clock()
    await polled(breakers)
    assert 0 < breakers[0].status().retry_after <= 300
    await fleet.advance(300)
    await polled(breakers)
    assert states(breakers) == {BreakerState.HALF_OPEN}


async def test_promoted_replica_that_lost_the_opening_opens_it_again(fleet: Fleet) -> None:
    await fleet.shared().close()
    breakers = await fleet.breakers(2)
    replica = await fleet.redis.dump(KEY)
    assert replica is not None
    await opened(fleet, breakers)
    await fleet.redis.restore(KEY, 0, replica, replace=True)
    await fleet.set_clock(ahead=3600)
    await polled(breakers)
    assert states(breakers) == {BreakerState.CLOSED}
    await opened(fleet, breakers)


async def test_process_without_redis_keeps_the_open_state_until_its_end(fleet: Fleet) -> None:
    async with outage(fleet) as (breakers, alone):
        await opened(fleet, breakers)
        with pytest.raises(CircuitBreakerOpen):
            await alone.acquire(30)
        await fleet.redis.rename(KEY, "hidden")
        await fleet.redis.set(KEY, "of another type")  # every command fails from now on
        await alone.poll()
        assert states([alone]) == {BreakerState.OPEN}
        assert not alone.status().is_shared
        await fleet.advance(300)
        assert states([alone]) == {BreakerState.HALF_OPEN}
        (await alone.acquire(30)).fail()
        assert states([alone]) == {BreakerState.OPEN}
        await fleet.advance(300)
        (await alone.acquire(30)).succeed()
        assert states([alone]) == {BreakerState.CLOSED}


async def test_process_without_redis_opens_by_its_own_failures(fleet: Fleet) -> None:
    async with outage(fleet) as (_, alone):
        await fleet.redis.set(KEY, "of another type")
        await alone.poll()
        await failing(alone, 4)
        await succeeding(alone, 3)
        assert states([alone]) == {BreakerState.CLOSED}
        await failing(alone, 1)
        assert states([alone]) == {BreakerState.OPEN}
        await fleet.redis.delete(KEY)
        await fleet.advance(1)
        await alone.poll()
        assert states([alone]) == {BreakerState.OPEN}  # no stampede when Redis is back
        assert alone.has_shared_state


@asynccontextmanager
async def outage(fleet: Fleet) -> AsyncIterator[tuple[list[CircuitBreaker], CircuitBreaker]]:
    breakers = await fleet.breakers(3)
    yield breakers, breakers[-1]


async def test_paused_redis_delays_no_call(redis_url: str, redis_server: RunningServer, fleet: Fleet) -> None:
    async with open_redis(redis_url, 3) as redis:
        breaker = fleet.breaker(FailFastRedis(redis))
        await breaker.poll()
        with redis_server.paused():
            await breaker.poll()
            assert not breaker.has_shared_state
            await failing(breaker, 5)
            assert states([breaker]) == {BreakerState.OPEN}


async def test_operator_opens_and_closes_it(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    breakers[0].force_open(3600)
    with pytest.raises(CircuitBreakerOpen) as rejection:
        await breakers[0].acquire(30)
    assert rejection.value.retry_after == 300
    assert breakers[0].status().is_forced
    await fleet.advance(3600)
    await breakers[0].acquire(30)
    breakers[1].force_open(3600)
    breakers[1].force_open(0)
    assert states([breakers[1]]) == {BreakerState.CLOSED}


async def test_change_of_the_state_is_reported(fleet: Fleet) -> None:
    breakers = await fleet.breakers(2)
    changes: list[BreakerState] = []
    breakers[1].changed.append(lambda: changes.append(breakers[1].state))
    await opened(fleet, breakers)
    await fleet.advance(300)
    await polled(breakers)
    (await breakers[0].acquire(30)).succeed()
    await polled(breakers)
    assert changes == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]
