"""The incidents of the runbooks: no Kafka, a wrong secret, a killed process, a corrupt file."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
from cryptography.fernet import Fernet

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.types import Message
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.domain.outcomes import Status
from safevideo_common.events.topics import PERFORMER
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.stream import write_webhook
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.webhook_sender import post
from webhook_ingest.spool.store import SegmentStore

SECRET, WRONG_SECRET = "rG7xq2LmV9cTb4YwKz81NfHd", "pW3sE6uJt0QaXo5ZiRk2BvCg"

PATIENCE_SECONDS = 60.0
DEAD = "evt-dead"

ToLocal = Callable[[str], str]


@asynccontextmanager
async def incident(folder: Path, safevideo_command: Path) -> AsyncIterator[tuple[ToLocal, Mapping[str, str]]]:
    """Create all incidents. Yield a function that puts local addresses into a command, and its environment."""
    ingest_port, gateway_port, database_url = free_port(), free_port(), f"sqlite+aiosqlite:///{folder / 'safevideo.db'}"
    environment = {
        **os.environ,
        "PATH": f"{safevideo_command.parent}:{os.environ['PATH']}",
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "HOST": "127.0.0.1",
        "LOG_DIR": str(folder / "logs"),
        "SAFEVIDEO_GATEWAY_URL": f"http://127.0.0.1:{gateway_port}",
        "SAFEVIDEO_INGEST_URL": f"http://127.0.0.1:{ingest_port}",
        "SAFEVIDEO_API_CLIENT": "ops",
        "SAFEVIDEO_API_KEY": await admin_key(database_url),
    }
    spool = {
        "SPOOL_DIR": str(folder / "spool"),
        "PRODUCE_TIMEOUT_SECONDS": "0.5",
        "SPOOL_DRAIN_SECONDS": "0",
        "PORT": str(ingest_port),
    }
    await dead_letter(database_url)
    corrupt(folder / "spool")
    ingest = ServiceProcess(
        "webhook_ingest", environment | spool | {"SHAREGRAM_WEBHOOK_SECRET": WRONG_SECRET}, folder / "ingest.out"
    )
    operator = environment | {"SHAREGRAM_WEBHOOK_SECRET": f"{SECRET},{WRONG_SECRET}"}
    gateway = ServiceProcess("gateway", operator | {"PORT": str(gateway_port)}, folder / "gateway.out")
    async with AsyncExitStack() as stack:
        for process in (ingest, gateway):
            await process.start()
            stack.push_async_callback(process.stop)
        await create_incident(ingest, f"http://127.0.0.1:{ingest_port}", folder / "logs")
        await until_available(f"http://127.0.0.1:{gateway_port}/healthz")
        paths = {
            **{f"events {word} ID": f"events {word} {DEAD}" for word in ("show", "retry")},
        }
        yield lambda line: _replace(line, paths), operator


def _replace(line: str, paths: Mapping[str, str]) -> str:
    for default, here in paths.items():
        line = line.replace(default, here)
    return line


async def admin_key(database_url: str) -> str:
    await migrate(database_url)
    async with Database.open(database_url) as database, database.transaction() as tx:
        return await api_keys.create(tx, "ops", Role.ADMIN, utc_now(), utc_now() + timedelta(hours=1))


async def dead_letter(database_url: str) -> None:
    """Store an event that a worker could not apply."""
    now = utc_now()
    dead = InboxEntry(
        "sync-worker", DEAD, "performer.profile.updated", "sg_1", PERFORMER, 0, 0, now, now, now,
        Status.DEAD, "HANDLER_FAILED: KeyError", payload=b"{}",
    )  # fmt: skip
    async with Database.open(database_url) as database, database.transaction() as tx:
        await inbox_rows.insert_rows(tx, [dead])


def corrupt(spool: Path) -> None:
    """Write a corrupt spool of a dead process."""
    files = SegmentStore(spool)
    files.append([Message(PERFORMER, b"sg_1", value) for value in (b"corrupt", b"valid")], at_ms=0)
    files.close()
    (segment,) = spool.glob("*/*.spool")
    segment.write_bytes(segment.read_bytes().replace(b"corrupt", b"CORRUPT"))


async def create_incident(ingest: ServiceProcess, base_url: str, logs: Path) -> None:
    await until_available(f"{base_url}/readyz")
    async with aiohttp.ClientSession(base_url) as client:
        assert [await status_of(client, WRONG_SECRET, number) for number in range(3)] == [200] * 3
        assert [await status_of(client, SECRET, number) for number in range(3, 6)] == [401] * 3
    await until_written(logs / "app.log", "Webhooks quarantined", "Webhook signature valid")
    await ingest.kill()
    await ingest.start()
    await until_written(logs / "error.log", "Spool segment corrupt")
    await until_available(f"{base_url}/readyz")


async def status_of(client: aiohttp.ClientSession, secret: str, number: int) -> int:
    webhook = write_webhook("performer.profile.updated", f"evt-{number}", "sg_1", {"changes": {"bio": "bio"}})
    return await post(client, "/webhooks/sharegram", secret, webhook)


async def until_written(file: Path, *texts: str) -> None:
    async def is_written() -> bool:
        text = await asyncio.to_thread(_text, file)
        return all(each in text for each in texts)

    await eventually(is_written, PATIENCE_SECONDS)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def until_available(url: str) -> None:
    """Return when the URL answers 200."""

    async def is_available() -> bool:
        try:
            async with aiohttp.ClientSession() as client, client.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(is_available, PATIENCE_SECONDS)
