"""Instances as processes of their own: two that share a port, and one whose event loop stands still."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex

import aiohttp
import orjson
import pytest

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.types import TopicPartition
from safevideo_common.events.topics import PERFORMER, all_topics
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import eventually
from safevideo_testkit.service_process import ServiceProcess

SECRET = "kR9-something-random-71"
SECONDS = 180.0


@asynccontextmanager
async def started(folder: Path, kafka: str, port: int, name: str, **variables: str) -> AsyncIterator[ServiceProcess]:
    """An instance with a spool and a log of its own, once it says that it serves."""
    own = folder / name
    own.mkdir()
    environment = {
        "SAFEVIDEO_ENV": "development",
        "DATABASE_URL": f"sqlite+aiosqlite:///{own / 'x.db'}",
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "SHAREGRAM_WEBHOOK_SECRET": SECRET,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_DIR": str(own),
        "SPOOL_DIR": str(own / "spool"),
        "READINESS_DRAIN_SECONDS": "0",
        **variables,
    }
    instance = ServiceProcess("webhook_ingest", environment, own / "out")
    await instance.start()
    try:
        while "Service started" not in instance.output():
            assert instance.ended is None, instance.output()
            await asyncio.sleep(0.02)
        yield instance
        assert await instance.stop() == 0
    finally:
        await instance.stop()


async def test_acknowledged_webhooks_are_published_when_one_of_two_instances_on_a_port_is_killed(
    kafka_bootstrap_servers: str, tmp_path: Path
) -> None:
    performer, port = f"sg_{token_hex(6)}", free_port()
    base = f"http://127.0.0.1:{port}"
    async with open_broker(kafka_bootstrap_servers, None) as log, asyncio.timeout(SECONDS):
        await log.create_topics(all_topics())
        place = (tmp_path, kafka_bootstrap_servers, port)
        async with started(*place, "a", REUSE_PORT="true") as killed, started(*place, "b", REUSE_PORT="true") as other:
            ids = await asyncio.gather(*(sent(base, performer, number) for number in range(100)))

            async def both_have_served() -> bool:  # log lines are written a moment after the answers
                # Nobody would deliver the spool of the killed one.
                spooled = await asyncio.to_thread(lambda: [*tmp_path.glob("a/spool/*/*.spool")])
                return not spooled and all("Webhook signature valid" in each.output() for each in (killed, other))

            await eventually(both_have_served)
            await killed.kill()
            ids += await asyncio.gather(*(sent(base, performer, number) for number in range(100, 200)))
        async with log.reader("test") as reader:
            ends = await reader.end_offsets(PERFORMER)
            found = {
                header.decode()
                for (_, partition), end in ends.items()
                for record in await reader.read(TopicPartition(PERFORMER, partition), max(0, end - 400), 400)
                for name, header in record.headers
                if name == "ce_id"
            }
    assert set(ids) <= found


async def test_a_second_instance_is_refused_a_port_that_is_not_shared(tmp_path: Path, unused_tcp_port: int) -> None:
    async with asyncio.timeout(SECONDS), started(tmp_path, "127.0.0.1:9", unused_tcp_port, "a"):
        with pytest.raises(AssertionError, match="address already in use"):
            async with started(tmp_path, "127.0.0.1:9", unused_tcp_port, "b", REUSE_PORT="true"):
                pass


async def test_healthz_does_not_answer_while_the_event_loop_stands_still(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/healthz"
    async with (
        asyncio.timeout(SECONDS),
        started(tmp_path, "127.0.0.1:9", unused_tcp_port, "a") as instance,
        aiohttp.ClientSession() as client,
    ):
        await instance.freeze()
        with pytest.raises(TimeoutError):
            await client.get(url, timeout=aiohttp.ClientTimeout(total=1))
        instance.thaw()
        async with client.get(url) as answer:
            assert answer.status == 200


async def sent(base: str, performer: str, number: int) -> str:
    """Its id, once it was answered 200. Sent again as the provider would, over a new connection each time."""
    data = {"performerId": performer, "version": number, "changes": {"username": f"u-{number}"}}
    event = {"id": f"{performer}-{number}", "event": "performer.profile.updated", "timestamp": "2026-11-24T12:00:00Z"}
    body = orjson.dumps(event | {"data": data})
    headers = {"X-Sharegram-Signature": "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()}
    while True:
        with suppress(aiohttp.ClientConnectionError):
            async with (
                aiohttp.ClientSession(base) as client,
                client.post("/webhooks/sharegram", data=body, headers=headers) as answer,
            ):
                if answer.status == 200:
                    return str((await answer.json())["webhookId"])
        await asyncio.sleep(0.05)
