"""Leases, on both engines."""

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from safevideo_common.database import leases
from safevideo_common.database.dialect import now_plus
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import leases as table
from safevideo_testkit.eventually import eventually

LONG = 60.0
SHORT = 0.05


async def hold(database: Database, holder: str, seconds: float = LONG, name: str = "relay") -> bool:
    async with database.transaction() as tx:
        return await leases.acquire(tx, name, holder, seconds)


async def extend(database: Database, holder: str) -> bool:
    async with database.transaction() as tx:
        return await leases.renew(tx, "relay", holder, LONG)


async def release(database: Database, holder: str) -> None:
    async with database.transaction() as tx:
        await leases.release(tx, "relay", holder)


async def test_a_lease_has_one_holder_who_can_extend_it(database: Database) -> None:
    assert await hold(database, "a")
    assert not await hold(database, "b")
    assert await hold(database, "a")
    assert not await hold(database, "b")


async def test_leases_of_different_names_have_nothing_to_do_with_each_other(database: Database) -> None:
    assert await hold(database, "a", name="one")
    assert await hold(database, "b", name="other")


async def test_who_comes_first_at_once_has_it(database: Database) -> None:
    held = await asyncio.gather(*(hold(database, f"process-{number}") for number in range(4)))
    assert sorted(held) == [False, False, False, True]


async def test_a_lease_that_nobody_extends_is_taken_by_another(database: Database) -> None:
    assert await hold(database, "a", SHORT)
    await eventually(lambda: hold(database, "b"))
    assert not await hold(database, "a")


async def test_what_is_released_can_be_taken_at_once_and_only_its_holder_releases_it(database: Database) -> None:
    assert await hold(database, "a")
    await release(database, "b")
    assert not await hold(database, "b")
    await release(database, "a")
    assert await hold(database, "b")


async def test_who_had_it_last_can_extend_it_even_when_it_is_over(database: Database) -> None:
    assert not await extend(database, "a")
    assert await hold(database, "a", SHORT)
    assert not await extend(database, "b")
    await release(database, "a")
    assert await extend(database, "a")


async def test_who_has_lost_it_cannot_extend_it_even_when_it_is_free_again(database: Database) -> None:
    assert await hold(database, "a")
    await release(database, "a")
    assert await hold(database, "b")
    await release(database, "b")
    assert not await extend(database, "a")


async def test_it_ends_by_the_time_of_the_database(database: Database) -> None:
    assert await hold(database, "a", 90.5)
    async with database.reading() as reading:
        ends_at = await reading.scalar(select(table.c.expires_at))
        now = await reading.scalar(select(now_plus()))
    assert isinstance(ends_at, datetime)
    assert isinstance(now, datetime)
    assert timedelta(seconds=80) < ends_at - now <= timedelta(seconds=90.5)
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)  # in these tests they are on one machine
