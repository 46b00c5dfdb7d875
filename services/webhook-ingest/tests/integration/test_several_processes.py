"""`INGEST_WORKERS=2` on a real Kafka: what was answered 200 is there, whichever worker dies."""

import asyncio
import hmac
import os
import signal
from pathlib import Path
from secrets import token_hex

import aiohttp
import orjson

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.types import TopicPartition
from safevideo_common.events.topics import PERFORMER, all_topics
from safevideo_testkit.service_process import ServiceProcess

SECRET = "kR9-something-random-71"
SECONDS = 60.0


async def test_what_was_answered_is_in_the_log_though_a_worker_was_killed(
    kafka_bootstrap_servers: str, tmp_path: Path, unused_tcp_port: int
) -> None:
    performer = f"sg_{token_hex(6)}"
    variables = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'x.db'}",
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        "SHAREGRAM_WEBHOOK_SECRET": SECRET,
        "HOST": "127.0.0.1",
        "PORT": str(unused_tcp_port),
        "INGEST_WORKERS": "2",
        "LOG_DIR": str(tmp_path),
        "SPOOL_DIR": str(tmp_path / "spool"),
    }
    async with open_broker(kafka_bootstrap_servers, None) as log, asyncio.timeout(SECONDS):
        await log.create_topics(all_topics())
        door = ServiceProcess("webhook_ingest", variables, tmp_path / "out")
        await door.start()
        try:
            base = f"http://127.0.0.1:{unused_tcp_port}"
            await ready(base)
            pids = door.children()
            assert len(pids) == 2
            ids = await asyncio.gather(*(sent(base, performer, number) for number in range(100)))
            os.kill(pids.pop(), signal.SIGKILL)
            ids += await asyncio.gather(*(sent(base, performer, number) for number in range(100, 200)))
        finally:
            assert await door.stop() == 0
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


async def ready(base: str) -> None:
    """Once a worker is."""
    async with aiohttp.ClientSession(base) as client:
        while True:
            try:
                async with client.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def sent(base: str, performer: str, number: int) -> str:
    """Its id, once it was answered 200. Sent again as the provider would, over a new connection each time."""
    data = {"performerId": performer, "version": number, "changes": {"username": f"u-{number}"}}
    event = {"id": f"{performer}-{number}", "event": "performer.profile.updated", "timestamp": "2026-11-24T12:00:00Z"}
    body = orjson.dumps(event | {"data": data})
    headers = {"X-Sharegram-Signature": "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()}
    while True:
        try:
            async with (
                aiohttp.ClientSession(base) as client,
                client.post("/webhooks/sharegram", data=body, headers=headers) as answer,
            ):
                if answer.status == 200:
                    return str((await answer.json())["webhookId"])
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.05)
