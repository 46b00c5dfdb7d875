"""A backend that hangs or dies in mid-stream delays and loses nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import token_hex

import aiohttp
import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.all_services import SECRET, whole_house
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.oracle.changes import check_changes
from safevideo_testkit.oracle.checks import check, insert_requests, outcomes, wait_until_settled
from safevideo_testkit.oracle.expected import BEGINNING, write_ledger
from safevideo_testkit.stacks import REAL, StackUnderTest
from safevideo_testkit.webhook_sender import send_all
from sharegram_simulator.signing import sign_sharegram
from sharegram_simulator.webhooks import Event, performer_updated

PATIENCE = 20.0
on_real_backends = pytest.mark.parametrize("stack", [REAL], indirect=True)


@on_real_backends
async def test_while_kafka_hangs_webhooks_are_taken_and_applied_when_it_is_back(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, kafka_server: RunningServer
) -> None:
    name = f"sg_{token_hex(4)}"
    async with Database.open(stack.database_url) as database, whole_house(stack, broker, log) as url:
        assert await _post(url, performer_updated(name, {"username": "before"}, 1, BEGINNING)) == 200
        with kafka_server.paused():
            for version in range(2, 5):
                assert await _post(url, performer_updated(name, {"username": f"v{version}"}, version, BEGINNING)) == 200
        await _id_of(database, name, "v4")


@on_real_backends
async def test_a_kafka_that_hangs_in_mid_stream_delays_and_loses_nothing(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, kafka_server: RunningServer
) -> None:
    async with _streaming(stack, broker, log):
        with kafka_server.paused():
            await asyncio.sleep(3)  # an outage lasts: longer than the deadline of a publish


@on_real_backends
async def test_a_kafka_that_is_killed_in_mid_stream_delays_and_loses_nothing(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, kafka_server: RunningServer
) -> None:
    async with _streaming(stack, broker, log):
        kafka_server.kill()
        await asyncio.to_thread(kafka_server.start)


@on_real_backends
async def test_a_database_that_is_killed_in_mid_stream_delays_and_loses_nothing(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, mysql_server: RunningServer
) -> None:
    async with _streaming(stack, broker, log):
        mysql_server.kill()
        await asyncio.to_thread(mysql_server.start)


@on_real_backends
async def test_while_redis_is_away_events_are_applied_and_what_is_cached_is_dropped_later(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, redis_server: RunningServer
) -> None:
    name = f"sg_{token_hex(4)}"
    async with (
        Database.open(stack.database_url) as database,
        open_redis(stack.redis_url, db=0, seconds=PATIENCE) as redis,
        whole_house(stack, broker, log) as url,
    ):
        await send_all(url, SECRET, [performer_updated(name, {"username": "before"}, 1, BEGINNING)])
        performer_id = await _id_of(database, name, "before")
        await PerformerCache(redis, seconds=PATIENCE).set_if_not_invalidated(performer_id, b"before")
        with redis_server.paused():
            await send_all(url, SECRET, [performer_updated(name, {"username": "after"}, 2, BEGINNING)])
            await _id_of(database, name, "after")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await PerformerCache(redis, seconds=PATIENCE).get(performer_id) is not None:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _streaming(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[None]:
    """A stream that is in its middle in the block, and as the ledger says after it."""
    ledger = write_ledger(performers=20, events=600, seed=7, prefix=f"sg_{token_hex(4)}")
    async with Database.open(stack.database_url) as database, whole_house(stack, broker, log) as url:
        await insert_requests(database, ledger)
        first, rest = ledger.sendings[:100], ledger.sendings[100:]
        await send_all(url, SECRET, first)
        sending = asyncio.create_task(send_all(url, SECRET, rest))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await outcomes(database, ledger):
                await asyncio.sleep(0.01)
        yield
        await sending
        await wait_until_settled(database, ledger)
        await check(database, ledger)
        await check_changes(broker, database, ledger)


async def _post(url: str, event: Event) -> int:
    body = event.body()
    headers = sign_sharegram(body, SECRET, datetime.now(UTC), event.id)
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status


async def _id_of(database: Database, name: str, username: str) -> int:
    """Our id of the performer, once its username is this."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            async with database.read_connection() as connection:
                found = await performers.id_of(connection, name)
                stored = await performers.get(connection, found) if found else None
            if found and stored and stored.performer.fields["username"] == username:
                return found
            await asyncio.sleep(0.02)
