"""Throttling of clients that send invalid signatures."""

import asyncio

import pytest

from safevideo_common.errors import RateLimited
from webhook_ingest.protection.signature_failures import (
    CHEAP_BYTES,
    LARGEST_BYTES,
    SignatureFailureLimiter,
    Tarpit,
)

SECONDS = 20.0


class ManualClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make_limiter(
    clock: ManualClock, *, total_per_second: int = 1000, max_addresses: int = 100
) -> SignatureFailureLimiter:
    return SignatureFailureLimiter(
        burst=3,
        per_minute=60,
        total_per_second=total_per_second,
        large_bytes_per_second=LARGEST_BYTES,
        connections_per_second=5,
        max_addresses=max_addresses,
        clock=clock,
    )


def test_limiter_throttles_address_after_its_burst(clock: ManualClock) -> None:
    limiter = make_limiter(clock)
    assert [limiter.record_failure("a") for _ in range(3)] == [None] * 3
    error = limiter.record_failure("a")
    assert error is not None
    assert (error.status, error.retry_after) == (429, 1)


def test_limiter_throttles_no_other_address(clock: ManualClock) -> None:
    limiter = make_limiter(clock)
    for _ in range(10):
        limiter.record_failure("a")
    assert limiter.record_failure("b") is None


def test_limiter_refills_burst_of_address(clock: ManualClock) -> None:
    limiter = make_limiter(clock)
    for _ in range(10):
        limiter.record_failure("a")
    clock.now += 1
    assert limiter.record_failure("a") is None
    assert limiter.record_failure("a") is not None
    clock.now += 3
    assert [limiter.record_failure("a") for _ in range(3)] == [None] * 3


def test_limiter_throttles_every_address_above_total_rate(clock: ManualClock) -> None:
    limiter = make_limiter(clock, total_per_second=10)
    answers = [limiter.record_failure(f"address-{number}") for number in range(20)]
    assert [answer is None for answer in answers] == [True] * 10 + [False] * 10


def test_limiter_admits_large_bodies_of_throttled_clients_at_a_common_rate(clock: ManualClock) -> None:
    limiter = make_limiter(clock)
    for _ in range(4):
        limiter.record_failure("a")
    limiter.admit_large_body("a", LARGEST_BYTES)
    with pytest.raises(RateLimited) as error:
        limiter.admit_large_body("a", CHEAP_BYTES + 1)
    assert error.value.retry_after == 1
    limiter.admit_large_body("b", LARGEST_BYTES)


def test_limiter_stops_throttling_after_a_quiet_time(clock: ManualClock) -> None:
    limiter = make_limiter(clock)
    for _ in range(4):
        limiter.record_failure("a")
    limiter.admit_large_body("a", LARGEST_BYTES)
    clock.now += 1
    for _ in range(5):
        limiter.admit_large_body("a", LARGEST_BYTES)


def test_limiter_bounds_connections_of_throttled_clients_only(clock: ManualClock) -> None:
    limiter = make_limiter(clock)
    for _ in range(4):
        limiter.record_failure("a")
    assert [limiter.admits_connection("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert [limiter.admits_connection("b") for _ in range(7)] == [True] * 7
    clock.now += 0.5
    assert [limiter.admits_connection("a") for _ in range(4)] == [True] * 2 + [False] * 2


def test_limiter_forgets_oldest_addresses(clock: ManualClock) -> None:
    """A forgotten address starts with a full burst: the total rate bounds many addresses."""
    limiter = make_limiter(clock, max_addresses=2)
    for address in ["a"] * 4 + ["b", "c"]:
        limiter.record_failure(address)
    assert limiter.record_failure("a") is None


async def test_tarpit_delays_a_bounded_number_of_responses() -> None:
    tarpit = Tarpit(places=1, seconds=SECONDS)
    delayed = asyncio.create_task(tarpit.delay())
    await asyncio.sleep(0)
    async with asyncio.timeout(SECONDS / 2):
        await tarpit.delay()
    assert not delayed.done()
    delayed.cancel()


async def test_tarpit_frees_place_after_delay() -> None:
    tarpit = Tarpit(places=1, seconds=0.05)
    loop = asyncio.get_running_loop()
    for _ in range(2):
        started = loop.time()
        await tarpit.delay()
        assert loop.time() - started >= 0.04
