"""Memory as an operator sees it: SIGUSR2 writes a report, and too much ends the process in order."""

import asyncio
import os
import signal
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from safevideo_common.observability.memory import MAX_REPORTS, write_report
from safevideo_testkit.eventually import eventually
from safevideo_testkit.service_process import read_until

SECONDS = 180.0
SECRET = "kR9-something-random-71"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'door.db'}",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "SAFEVIDEO_ENV": "development",
        "SHAREGRAM_WEBHOOK_SECRET": SECRET,
        "SPOOL_DIR": str(tmp_path / "spool"),
        "LOG_DIR": str(tmp_path / "logs"),
        "HOST": "127.0.0.1",
        "PORT": "0",
    }


@asynccontextmanager
async def started(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A door that has said that it is there; it is told to end afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "webhook_ingest",
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        await read_until(process, b"Service started")
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


def reports(folder: Path) -> list[Path]:
    return sorted(folder.glob("memory-*.txt"))


async def until_reported(folder: Path, count: int) -> None:
    async def is_there() -> bool:
        found = reports(folder)
        return len(found) >= count and all("allocations" in path.read_text() for path in found)

    await eventually(is_there)


async def test_sigusr2_writes_a_memory_report_and_the_process_continues(
    environment: dict[str, str], tmp_path: Path
) -> None:
    async with started(environment) as process:
        process.send_signal(signal.SIGUSR2)
        await until_reported(tmp_path / "logs", 1)
        process.send_signal(signal.SIGUSR2)
        await until_reported(tmp_path / "logs", 2)
    assert process.returncode == 0
    text = reports(tmp_path / "logs")[0].read_text()
    assert text.startswith(f"Memory report of webhook-ingest, pid {process.pid}, ")
    for wanted in ("resident: ", "collector: counts", "builtins.function", "not traced"):
        assert wanted in text
    assert SECRET not in text


async def test_sighup_reopens_the_log_files(environment: dict[str, str], tmp_path: Path) -> None:
    app_log = tmp_path / "logs" / "app.log"
    async with started(environment) as process:
        app_log.rename(tmp_path / "logs" / "app.log.1")
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert "Service stopping" in app_log.read_text()


async def test_process_over_its_memory_limit_stops_in_order_with_exit_code_1(
    environment: dict[str, str], tmp_path: Path
) -> None:
    async with started(environment | {"MEMORY_LIMIT_MB": "10"}) as process:
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"memory over the limit" in said
    assert b"Traceback" not in said
    log = (tmp_path / "logs" / "app.log").read_text()
    assert "ERROR webhook-ingest MEMORY_OVER_LIMIT Memory over the limit" in log
    assert log.index("MEMORY_OVER_LIMIT") < log.index("Service stopping")
    assert len(reports(tmp_path / "logs")) == 1


def test_memory_reports_are_limited_and_private(tmp_path: Path) -> None:
    written = [write_report("door", tmp_path, None) for _ in range(MAX_REPORTS + 3)]
    assert reports(tmp_path) == written[3:]
    assert written[-1].stat().st_mode & 0o777 == 0o600
    write_report("door-2", tmp_path, None)
    assert len(reports(tmp_path)) == MAX_REPORTS + 1


def test_memory_report_has_allocations_when_they_are_traced(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        held = [bytes(1000) for _ in range(100)]
        text = write_report("door", tmp_path, None).read_text()
    finally:
        tracemalloc.stop()
    assert len(held) == 100
    assert "test_memory.py:" in text
