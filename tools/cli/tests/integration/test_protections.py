"""`safevideo breaker`, `fallback` and `flags` on a terminal and in scripts, with and without Redis."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from safevideo_common.database.migrate import migrate
from safevideo_devstack.backends.ports import free_port

COMMAND = Path(sys.executable).parent / "safevideo"


@pytest.fixture
def database_url(fresh_sqlite_url: str) -> str:
    asyncio.run(migrate(fresh_sqlite_url))
    return fresh_sqlite_url


def run(database_url: str, redis_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"], "DATABASE_URL": database_url, "REDIS_URL": redis_url, "COLUMNS": "160",
    }  # fmt: skip
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def test_breaker_is_opened_and_shown(database_url: str, redis_url: str) -> None:
    opened = run(database_url, redis_url, "breaker", "open", "--reason", "maintenance", "--json")
    assert opened.returncode == 0, opened.stderr
    [breaker] = orjson.loads(opened.stdout)["breakers"]
    assert (breaker["name"], breaker["state"]) == ("sharegram", "open")
    assert breaker["by"].endswith("maintenance")
    assert "open" in run(database_url, redis_url, "breaker", "status").stdout


def test_flag_is_set_for_a_time(database_url: str, redis_url: str) -> None:
    printed = run(database_url, redis_url, "flags", "set", "kyc", "off", "--duration", "60", "--json")
    assert orjson.loads(printed.stdout)["kyc"] == {"enabled": False, "seconds_left": 60.0, "is_default": False}


def test_operators_decide_without_redis_but_set_no_flag(database_url: str) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    assert run(database_url, nowhere, "fallback", "on").stdout.startswith("Fallback mode is on until ")
    failed = run(database_url, nowhere, "flags", "set", "kyc", "off")
    assert failed.returncode == 1
    assert failed.stderr == "SERVICE_UNAVAILABLE: Redis does not answer: the flag was not set.\n"
