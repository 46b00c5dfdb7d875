"""Very many connections with unfinished requests: an honest sender is served, and memory stays within its limit.

`HOSTILE_CONNECTIONS=2048 make test ARGS=<this file>` is the long form.
"""

import asyncio
import hmac
import os
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import aiohttp
import orjson

from safevideo_common.tasks import cancel_and_wait
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.service_process import ServiceProcess

SECRET = "kR9-something-random-71"
PATH = "/webhooks/sharegram"
CONNECTIONS = int(os.environ.get("HOSTILE_CONNECTIONS", "200"))
MEMORY_LIMIT_MB = 256 if CONNECTIONS <= 200 else 512
"""The process stops itself beyond this. Without a bound on heads each of these could take 7 MiB."""

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode()
HEADERS = b"".join(b"X-%d: " % number + b"h" * 30_000 + b"\r\n" for number in range(120))
UNFINISHED = (
    HEAD + HEADERS,
    (HEAD + HEADERS)[:60_000],
    HEAD + b"X-Long: " + b"h" * 30_000 + b"\r\nContent-Length: 1048576\r\n\r\n" + b"b" * 500_000,
    (HEAD + b"Content-Length: 1\r\n\r\nb") * 300,
)
"""An endless head; one below the limit; half a large body; many requests at once."""


async def send_unfinished(port: int, request: bytes) -> None:
    """Send it again and again, on a new connection as soon as the server has closed the last one."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                await reader.read()
            finally:
                writer.transport.abort()
        await asyncio.sleep(2)


async def post_signed(client: aiohttp.ClientSession, number: int) -> int:
    """Return the status; on a lost connection send again, as Sharegram does, twice at most."""
    data = {"performerId": f"sg_{number}", "changes": {"bio": "b"}}
    body = orjson.dumps(
        {"event": "performer.profile.updated", "timestamp": "2026-11-24T12:00:00Z", "data": data, "id": f"e{number}"}
    )
    signature = "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()
    for _ in range(2):
        with suppress(aiohttp.ClientConnectionError):
            return await post(client, body, signature)
    return await post(client, body, signature)


async def post(client: aiohttp.ClientSession, body: bytes, signature: str) -> int:
    async with client.post(PATH, data=body, headers={"X-Sharegram-Signature": signature}) as answer:
        return answer.status


async def test_honest_sender_is_served_among_hostile_connections_within_the_memory_limit(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "SAFEVIDEO_ENV": "development",
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'x.db'}",
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",  # nobody is there: webhooks are spooled
        "SHAREGRAM_WEBHOOK_SECRET": SECRET,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_DIR": str(tmp_path),
        "SPOOL_DIR": str(tmp_path / "spool"),
        "PRODUCE_TIMEOUT_SECONDS": "0.5",
        "SHUTDOWN_SECONDS": "0.5",
        "SPOOL_DRAIN_SECONDS": "0",
        "MEMORY_LIMIT_MB": str(MEMORY_LIMIT_MB),
    }
    ingest = ServiceProcess("webhook_ingest", environment, tmp_path / "out")
    await ingest.start()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "Service started" not in ingest.output():
                assert ingest.ended is None, ingest.output()
                await asyncio.sleep(0.05)
            hostile = [
                asyncio.create_task(send_unfinished(port, request))
                for request in islice(cycle(UNFINISHED), CONNECTIONS)
            ]
            # A connection each, since an idle one may be evicted.
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(force_close=True)
            ) as client:
                statuses: list[int] = []
                for begin in (0, 10, 20):
                    statuses += await asyncio.gather(*(post_signed(client, begin + each) for each in range(10)))
            for task in hostile:
                await cancel_and_wait(task)
        assert statuses == [200] * 30
        assert ingest.ended is None, ingest.output()[-2000:]
    finally:
        status = await ingest.stop()
    assert status == 0
    assert "MEMORY_OVER_LIMIT" not in ingest.output()
