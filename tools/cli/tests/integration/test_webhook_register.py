"""`safevideo webhook register`: sent signed and once, audited, and clear when it fails."""

import asyncio
import os

from pydantic import SecretStr

from safevideo_common.audit import store as audit
from safevideo_common.audit.store import AuditFilter
from safevideo_common.database.engine import Database
from safevideo_testkit.command import command_path, run_command
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

URL = "https://safevideo.example/webhooks/sharegram"
SECONDS = 120


async def register(database_url: str, base_url: str, redis_url: str, url: str = URL) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(command_path(), "webhook", "register", url, "--event", "performer.status.changed"),
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SHAREGRAM_API_URL": f"{base_url}/v1",
            "SHAREGRAM_API_KEY": "planted-api-key-0123456789",
            "SHAREGRAM_SECRET_KEY": "planted-secret-key-0123456789",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_register_is_sent_once_through_the_breaker_audited_and_its_failure_is_named(
    migrated_sqlite_url: str, redis_url: str
) -> None:
    settings = SimulatorSettings(
        port=0,
        webhook_secret=SecretStr("a webhook secret"),
        api_key=SecretStr("planted-api-key-0123456789"),
        secret_key=SecretStr("planted-secret-key-0123456789"),
    )
    async with running_simulator(settings) as simulator:
        code, out, _ = await register(migrated_sqlite_url, simulator.base_url, redis_url)
        assert (code, out.startswith(f"Sharegram sends performer.status.changed to {URL}")) == (0, True)
        for address in (URL.replace("https", "http"), URL.replace("//", "//user:planted@")):
            code, out, err = await register(migrated_sqlite_url, simulator.base_url, redis_url, address)
            assert (code, out, err.startswith("VALIDATION_ERROR: "), "planted" in err) == (1, "", True, False)
        await simulator.put("/_sim/faults", {"mode": "errors", "status": 503})
        code, out, err = await register(migrated_sqlite_url, simulator.base_url, redis_url)
        assert (code, out, "SERVICE_UNAVAILABLE: Sharegram answered 503 Service Unavailable" in err) == (1, "", True)
        assert "planted" not in err
        run_command(["breaker", "open"], {"DATABASE_URL": migrated_sqlite_url, "REDIS_URL": redis_url})
        code, out, err = await register(migrated_sqlite_url, simulator.base_url, redis_url)
        assert (code, err.startswith("CIRCUIT_BREAKER_OPEN: ")) == (1, True), err
        assert [call["path"] for call in (await simulator.state())["calls"]] == ["/v1/webhooks"] * 2
    async with Database.open(migrated_sqlite_url) as database, database.read_connection() as reading:
        records, _ = await audit.find(
            reading, AuditFilter(target="integration:sharegram"), page=1, limit=10, order="asc"
        )
    requested, failed = "webhooks.registration_requested", "webhooks.registration_failed"
    actions = [each.entry.action for each in records]
    assert actions == [requested, "webhooks.registered", requested, failed, requested, failed]
