"""The whole life of a service's process, seen from outside."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from safevideo_testkit.service_process import read_until
from safevideo_testkit.stacks import REAL, StackUnderTest

SERVICES = ("gateway", "kyc_worker", "sync_worker", "webhook_ingest")
SECONDS = 180.0


async def ended(module: str, environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and what it said on stderr, of a process that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env={"PATH": os.environ["PATH"]} | environment, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(SECONDS):
        _, said = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.mark.parametrize("module", SERVICES)
async def test_start_names_missing_settings(module: str) -> None:
    status, said = await ended(module, {})
    assert status == 1
    assert "DATABASE_URL" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("module", ["gateway", "kyc_worker", "sync_worker"])
async def test_start_on_an_empty_database_names_the_command(module: str, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
    variables = {"DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "HOST": "127.0.0.1", "PORT": "0"}
    variables["SAFEVIDEO_ENV"] = "development"
    status, said = await ended(module, variables)
    assert status == 1
    assert said.splitlines()[-1].endswith("Run: safevideo migrate")
    assert "Traceback" not in said


async def test_start_on_a_used_port_fails_without_a_traceback(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        variables = {
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "SAFEVIDEO_ENV": "development",
            "SHAREGRAM_WEBHOOK_SECRET": "kR9-something-random-71",
            "SPOOL_DIR": str(tmp_path / "spool"),
            "HOST": "127.0.0.1",
            "PORT": str(port),
        }
        status, said = await ended("webhook_ingest", variables)
    assert status == 1
    assert str(port) in said
    assert "Traceback" not in said


@pytest.mark.parametrize("stack", [REAL], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_stops_the_process_in_order(stack: StackUnderTest, number: signal.Signals) -> None:
    variables = {
        "DATABASE_URL": stack.database_url,
        "REDIS_URL": stack.redis_url,
        "KAFKA_BOOTSTRAP_SERVERS": stack.kafka_bootstrap_servers,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "SAFEVIDEO_ENV": "development",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sync_worker", env=os.environ | variables, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(SECONDS):
        await read_until(process, b"Service started")
        process.send_signal(number)
        rest, _ = await process.communicate()
    assert process.returncode == 0
    assert b"Service stopping" in rest
