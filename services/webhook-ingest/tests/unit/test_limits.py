"""What one process takes in hand, and what it does with those who send wrong signatures."""

import asyncio

import pytest

from safevideo_common.errors import Overloaded, RateLimited, RequestTimedOut
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.virtual_time import in_virtual_time
from webhook_ingest.protection.concurrency import ConcurrencyLimit, SlowBodyLimiter
from webhook_ingest.protection.signature_failures import (
    CHEAP_BYTES,
    LARGEST_BYTES,
    SignatureFailureLimiter,
    Tarpit,
)


class Watch:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


def failed_signatures(
    watch: Watch, *, everyone_per_second: int = 1000, addresses: int = 100
) -> SignatureFailureLimiter:
    return SignatureFailureLimiter(
        burst=3,
        per_minute=60,
        everyone_per_second=everyone_per_second,
        share=LARGEST_BYTES,
        connections_per_second=5,
        addresses=addresses,
        clock=watch,
    )


def test_one_too_many_in_flight_is_refused_and_the_next_one_after_an_end_is_not() -> None:
    in_flight = ConcurrencyLimit(2)
    with in_flight:
        with in_flight, pytest.raises(Overloaded) as refused, in_flight:
            pass
        with in_flight:
            assert in_flight.now == 2
    assert in_flight.now == 0
    assert refused.value.retry_after == 1


def test_a_webhook_that_fails_is_not_in_flight_any_more() -> None:
    in_flight = ConcurrencyLimit(1)
    with pytest.raises(ZeroDivisionError), in_flight:
        raise ZeroDivisionError
    assert in_flight.now == 0


@in_virtual_time
async def test_a_body_has_so_many_seconds_in_all_however_often_a_bit_of_it_comes() -> None:
    async def trickle(bodies: SlowBodyLimiter) -> None:
        async with bodies.waiting(10):
            while True:
                await asyncio.sleep(0.01)

    with pytest.raises(RequestTimedOut):
        await trickle(SlowBodyLimiter(bodies=5, total_bytes=100, seconds=0.1))


async def test_the_longest_waited_for_gives_way_when_there_are_too_many() -> None:
    bodies = SlowBodyLimiter(bodies=2, total_bytes=1000, seconds=DEADLINE_SECONDS)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        first, second = (group.create_task(_overloaded(bodies, 1)) for _ in range(2))
        await asyncio.sleep(0)
        async with bodies.waiting(1):
            assert await first
            assert not second.done()
        third = group.create_task(_overloaded(bodies, 1))
        await asyncio.sleep(0)
        assert not second.done()
        second.cancel()
        third.cancel()


async def test_as_many_give_way_as_one_large_body_needs() -> None:
    bodies = SlowBodyLimiter(bodies=100, total_bytes=10, seconds=DEADLINE_SECONDS)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        small = [group.create_task(_overloaded(bodies, 3)) for _ in range(3)]
        await asyncio.sleep(0)
        async with bodies.waiting(7):
            assert await asyncio.gather(*small[:2]) == [True, True]
            assert not small[2].done()
        small[2].cancel()


async def test_a_body_larger_than_the_whole_room_is_waited_for_alone() -> None:
    async with SlowBodyLimiter(bodies=5, total_bytes=10, seconds=DEADLINE_SECONDS).waiting(11):
        pass


async def _overloaded(bodies: SlowBodyLimiter, size: int) -> bool:
    try:
        async with bodies.waiting(size):
            await asyncio.Event().wait()
    except Overloaded:
        return True
    return False


def test_the_first_failures_of_an_address_are_told_why(watch: Watch) -> None:
    failed = failed_signatures(watch)
    assert [failed.failed("a") for _ in range(3)] == [None] * 3
    refused = failed.failed("a")
    assert refused is not None
    assert (refused.status, refused.retry_after) == (429, 1)


def test_another_address_is_no_suspect(watch: Watch) -> None:
    failed = failed_signatures(watch)
    for _ in range(10):
        failed.failed("a")
    assert failed.failed("b") is None


def test_a_suspect_is_told_why_again_after_a_while(watch: Watch) -> None:
    failed = failed_signatures(watch)
    for _ in range(10):
        failed.failed("a")
    watch.now += 1
    assert failed.failed("a") is None
    assert failed.failed("a") is not None
    watch.now += 3
    assert [failed.failed("a") for _ in range(3)] == [None] * 3


def test_failures_from_everywhere_at_once_make_everyone_a_suspect(watch: Watch) -> None:
    failed = failed_signatures(watch, everyone_per_second=10)
    answers = [failed.failed(f"address-{number}") for number in range(20)]
    assert [answer is None for answer in answers] == [True] * 10 + [False] * 10


def test_a_large_body_of_a_suspect_is_admitted_within_the_share_of_suspects(watch: Watch) -> None:
    failed = failed_signatures(watch)
    for _ in range(4):
        failed.failed("a")
    failed.admit("a", LARGEST_BYTES)
    with pytest.raises(RateLimited) as refused:
        failed.admit("a", CHEAP_BYTES + 1)
    assert refused.value.retry_after == 1
    failed.admit("b", LARGEST_BYTES)


def test_a_suspect_who_was_quiet_is_none_any_more(watch: Watch) -> None:
    failed = failed_signatures(watch)
    for _ in range(4):
        failed.failed("a")
    failed.admit("a", LARGEST_BYTES)
    watch.now += 1
    for _ in range(5):
        failed.admit("a", LARGEST_BYTES)


def test_suspects_share_what_they_may_open_and_nobody_else_is_counted(watch: Watch) -> None:
    failed = failed_signatures(watch)
    for _ in range(4):
        failed.failed("a")
    assert [failed.admits_connection("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert [failed.admits_connection("b") for _ in range(7)] == [True] * 7
    watch.now += 0.5
    assert [failed.admits_connection("a") for _ in range(4)] == [True] * 2 + [False] * 2


def test_no_more_addresses_are_remembered_than_it_was_told(watch: Watch) -> None:
    """Who is forgotten starts anew: the limit of all together is what bounds a crowd."""
    failed = failed_signatures(watch, addresses=2)
    for address in ["a"] * 4 + ["b", "c"]:
        failed.failed(address)
    assert failed.failed("a") is None


@in_virtual_time
async def test_answers_are_held_back_in_a_bounded_number() -> None:
    held_back = Tarpit(places=1, seconds=DEADLINE_SECONDS)
    held = asyncio.create_task(held_back.hold())
    await asyncio.sleep(0)
    await held_back.hold()
    assert not held.done()
    held.cancel()


@in_virtual_time
async def test_whoever_is_held_back_gives_the_place_to_the_next() -> None:
    held_back = Tarpit(places=1, seconds=5.0)
    loop = asyncio.get_running_loop()
    for _ in range(2):
        began = loop.time()
        await held_back.hold()
        assert loop.time() - began == pytest.approx(5.0)
