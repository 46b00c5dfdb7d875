"""All that the runbooks are about: Kafka is away, the secret was wrong, a process was killed, a file is damaged."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
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
from safevideo_testkit.oracle.ingest_oracle import body_of
from safevideo_testkit.service_process import ServiceProcess
from sharegram_simulator.signing import sign_sharegram
from webhook_ingest.spool.store import SegmentStore

SECRET, WRONG_SECRET = "c2hhcmVkLXdpdGgtc2hhcmVncmFt", "dGhlLW9uZS10aGF0LXdhcy13cm9uZw"

PATIENCE_SECONDS = 60.0
DEAD = "evt-dead"

Localised = Callable[[str], str]


@asynccontextmanager
async def troubled(folder: Path) -> AsyncIterator[tuple[Localised, Mapping[str, str]]]:
    """What turns a command's default addresses into those of this run, and the environment that an operator has."""
    door_port, gateway_port, database_url = free_port(), free_port(), f"sqlite+aiosqlite:///{folder / 'safevideo.db'}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where `safevideo` is
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "HOST": "127.0.0.1",
        "LOG_DIR": str(folder / "logs"),
        "SAFEVIDEO_GATEWAY_URL": f"http://127.0.0.1:{gateway_port}",
        "SAFEVIDEO_API_CLIENT": "ops",
        "SAFEVIDEO_API_KEY": await admin_key(database_url),
    }
    spool = {
        "SPOOL_DIR": str(folder / "spool"),
        "PRODUCE_TIMEOUT_SECONDS": "0.5",
        "SPOOL_DRAIN_SECONDS": "0",
        "PORT": str(door_port),
    }
    await bury(database_url)
    damage(folder / "spool")
    door = ServiceProcess(
        "webhook_ingest", environment | spool | {"SHAREGRAM_WEBHOOK_SECRET": WRONG_SECRET}, folder / "door.out"
    )
    operator = environment | {"SHAREGRAM_WEBHOOK_SECRET": f"{SECRET},{WRONG_SECRET}"}
    gateway = ServiceProcess("gateway", operator | {"PORT": str(gateway_port)}, folder / "gateway.out")
    async with AsyncExitStack() as stack:
        for process in (door, gateway):
            await process.start()
            stack.push_async_callback(process.stop)
        await get_into_trouble(door, f"http://127.0.0.1:{door_port}", folder / "logs")
        await answering(f"http://127.0.0.1:{gateway_port}/healthz")
        paths = {
            "/var/log/safevideo": str(folder / "logs"),
            "localhost:3001": f"127.0.0.1:{door_port}",
            **{f"events {word} ID": f"events {word} {DEAD}" for word in ("show", "retry")},
        }
        yield lambda line: replaced(line, paths), operator


def replaced(line: str, paths: Mapping[str, str]) -> str:
    for default, here in paths.items():
        line = line.replace(default, here)
    return line


async def admin_key(database_url: str) -> str:
    await migrate(database_url)
    async with Database.open(database_url) as database, database.transaction() as tx:
        return await api_keys.create(tx, "ops", Role.ADMIN, utc_now(), utc_now() + timedelta(hours=1))


async def bury(database_url: str) -> None:
    """An event that a worker could not apply."""
    now = utc_now()
    dead = InboxEntry(
        "sync-worker", DEAD, "performer.profile.updated", "sg_1", PERFORMER, 0, 0, now, now, now,
        Status.DEAD, "HANDLER_FAILED: KeyError", payload=b"{}",
    )  # fmt: skip
    async with Database.open(database_url) as database, database.transaction() as tx:
        await inbox_rows.insert_rows(tx, [dead])


def damage(spool: Path) -> None:
    """What a dead process left, and its disk has spoilt."""
    files = SegmentStore(spool)
    files.append([Message(PERFORMER, b"sg_1", value) for value in (b"spoilt", b"sound")], at_ms=0)
    files.close()
    (segment,) = spool.glob("*/*.spool")
    segment.write_bytes(segment.read_bytes().replace(b"spoilt", b"SPOILT"))


async def get_into_trouble(door: ServiceProcess, base_url: str, logs: Path) -> None:
    await answering(f"{base_url}/readyz")
    async with aiohttp.ClientSession(base_url) as client:
        assert [await sent(client, WRONG_SECRET, number) for number in range(3)] == [200] * 3
        assert [await sent(client, SECRET, number) for number in range(3, 6)] == [401] * 3
    await until_written(logs / "app.log", "Webhooks quarantined", "Webhook signature valid")
    await door.kill()
    await door.start()
    await until_written(logs / "error.log", "set aside")
    await answering(f"{base_url}/readyz")


async def sent(client: aiohttp.ClientSession, secret: str, number: int) -> int:
    body = body_of(f"evt-{number}", "sg_1", "performer.profile.updated", "bio")
    headers = sign_sharegram(body, secret, datetime.now(UTC), f"evt-{number}") | {"Content-Type": "application/json"}
    async with client.post("/webhooks/sharegram", data=body, headers=headers) as answer:
        return answer.status


async def until_written(log: Path, *wanted: str) -> None:
    async def is_there() -> bool:
        text = await asyncio.to_thread(_text, log)
        return all(each in text for each in wanted)

    await eventually(is_there, PATIENCE_SECONDS)


def _text(log: Path) -> str:
    return log.read_text() if log.exists() else ""


async def answering(url: str) -> None:
    """Return once it answers 200."""

    async def answers() -> bool:
        try:
            async with aiohttp.ClientSession() as client, client.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(answers, PATIENCE_SECONDS)
