"""`safevideo breaker`, `fallback` and `flags` on a terminal and in scripts, with and without Redis."""

import subprocess

import orjson

from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.command import run_command


def run(migrated_sqlite_url: str, redis_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(list(arguments), {"DATABASE_URL": migrated_sqlite_url, "REDIS_URL": redis_url, "COLUMNS": "160"})


def test_breaker_is_opened_and_shown(migrated_sqlite_url: str, redis_url: str) -> None:
    opened = run(migrated_sqlite_url, redis_url, "breaker", "open", "--reason", "maintenance", "--json")
    assert opened.returncode == 0, opened.stderr
    [breaker] = orjson.loads(opened.stdout)["breakers"]
    assert (breaker["name"], breaker["state"]) == ("sharegram", "open")
    assert breaker["by"].endswith("maintenance")
    assert "open" in run(migrated_sqlite_url, redis_url, "breaker", "status").stdout


def test_flag_is_set_for_a_time(migrated_sqlite_url: str, redis_url: str) -> None:
    printed = run(migrated_sqlite_url, redis_url, "flags", "set", "kyc", "off", "--duration", "60", "--json")
    assert orjson.loads(printed.stdout)["kyc"] == {"enabled": False, "seconds_left": 60.0, "is_default": False}


def test_operators_decide_without_redis_but_set_no_flag(migrated_sqlite_url: str) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    assert run(migrated_sqlite_url, nowhere, "fallback", "on").stdout.startswith("Fallback mode is on until ")
    failed = run(migrated_sqlite_url, nowhere, "flags", "set", "kyc", "off")
    assert failed.returncode == 1
    assert failed.stderr == "SERVICE_UNAVAILABLE: Redis does not answer: the flag was not set.\n"
