"""Kafka, the database or Redis hangs or dies in the middle of a stream: events are late, and none is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

import aiohttp
import pytest
from yarl import URL

from safevideo_common.broker.port import Broker
from safevideo_common.cache.performers import PerformerCache
from safevideo_common.cache.redis import open_redis
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.all_services import SECRET, all_services
from safevideo_testkit.eventually import eventually
from safevideo_testkit.faults.ingest_faults import until_spool
from safevideo_testkit.oracle.checks import count_events, insert_requests
from safevideo_testkit.oracle.stream import Webhook, write_stream, write_webhook
from safevideo_testkit.oracle.system import open_system
from safevideo_testkit.stacks import REAL, StackUnderTest
from safevideo_testkit.webhook_sender import post, send_all

REDIS_SECONDS = 20.0
on_real_backends = pytest.mark.parametrize("stack", [REAL], indirect=True)


@on_real_backends
async def test_ingest_accepts_webhooks_while_kafka_hangs_and_they_are_applied_afterwards(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, kafka_server: RunningServer
) -> None:
    name = f"sg_{token_hex(4)}"
    async with (
        open_system(stack, broker) as system,
        all_services(stack, broker, log) as url,
        aiohttp.ClientSession() as session,
    ):
        await send_all(url, SECRET, [_update(name, 1, "before")])
        with kafka_server.paused():
            for version in range(2, 5):
                assert await post(session, url, SECRET, _update(name, version, f"v{version}")) == 200
        await _id_of(system.database, name, "v4")


@on_real_backends
async def test_services_lose_nothing_when_kafka_hangs_mid_stream(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, kafka_server: RunningServer
) -> None:
    async with _streaming(stack, broker, log):
        with kafka_server.paused():
            await asyncio.sleep(3)  # an outage lasts: longer than the deadline of a publish


@on_real_backends
async def test_services_lose_nothing_when_kafka_is_killed_mid_stream(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, kafka_server: RunningServer
) -> None:
    async with _streaming(stack, broker, log):
        kafka_server.kill()
        await asyncio.to_thread(kafka_server.start)


@on_real_backends
async def test_services_lose_nothing_when_the_database_is_killed_mid_stream(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, mysql_server: RunningServer
) -> None:
    async with _streaming(stack, broker, log):
        mysql_server.kill()
        await asyncio.to_thread(mysql_server.start)


@on_real_backends
async def test_sync_worker_applies_events_while_redis_hangs_and_invalidates_the_cache_afterwards(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, redis_server: RunningServer
) -> None:
    name = f"sg_{token_hex(4)}"
    async with (
        open_system(stack, broker) as system,
        open_redis(stack.redis_url, db=0, seconds=REDIS_SECONDS) as redis,
        all_services(stack, broker, log) as url,
    ):
        cache = PerformerCache(redis, seconds=REDIS_SECONDS)
        await send_all(url, SECRET, [_update(name, 1, "before")])
        performer_id = await _id_of(system.database, name, "before")
        await cache.set_if_not_invalidated(performer_id, b"before")
        with redis_server.paused():
            await send_all(url, SECRET, [_update(name, 2, "after")])
            await _id_of(system.database, name, "after")

        async def is_invalidated() -> bool:
            return await cache.get(performer_id) is None

        await eventually(is_invalidated)


@asynccontextmanager
async def _streaming(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[None]:
    """Send a stream, of which the middle is in the block. Check the whole stream after the block."""
    stream = write_stream(performers=20, events=600, seed=7, prefix=f"sg_{token_hex(4)}")
    async with open_system(stack, broker) as system, all_services(stack, broker, log) as url:
        await insert_requests(system.database, stream.performers)
        await send_all(url, SECRET, stream.webhooks[:100])
        sending = asyncio.create_task(send_all(url, SECRET, stream.webhooks[100:]))

        async def has_begun() -> bool:
            return await count_events(system.database) > 0

        await eventually(has_begun)
        yield
        await sending
        await until_spool(str(URL(url).origin()), lambda events: events == 0)
        await system.check_all_applied(stream)


def _update(name: str, version: int, username: str) -> Webhook:
    data = {"changes": {"username": username}}
    return write_webhook("performer.profile.updated", f"{name}-{version}", name, data, version=version)


async def _id_of(database: Database, name: str, username: str) -> int:
    """Return our id of the performer when it has this username."""
    ids: list[int] = []

    async def is_stored() -> bool:
        async with database.read_connection() as connection:
            performer_id = await performers.id_of(connection, name)
            stored = await performers.get(connection, performer_id) if performer_id else None
        if performer_id and stored and stored.performer.fields["username"] == username:
            ids.append(performer_id)
        return bool(ids)

    await eventually(is_stored)
    return ids[0]
