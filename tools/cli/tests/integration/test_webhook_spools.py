"""`safevideo webhook spools` shows the spools that no process has, and forgets one."""

import json
import subprocess

import pytest

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.webhooks.spool_reports import SpoolReport, SpoolReports
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.command import run_command
from safevideo_testkit.eventually import DEADLINE_SECONDS


@pytest.fixture
async def _spools(redis_url: str) -> None:
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        reports = SpoolReports(FailFastRedis(redis, seconds=DEADLINE_SECONDS))
        await reports.write("here-1", SpoolReport("x", 2, 0.0))
        await reports.write_last("gone-1", SpoolReport("y", 3, 0.0), is_disk_empty=False)


@pytest.mark.usefixtures("_spools")
def test_spool_of_a_process_that_is_gone_is_shown_and_forgotten(migrated_sqlite_url: str, redis_url: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"DATABASE_URL": migrated_sqlite_url, "REDIS_URL": redis_url, "COLUMNS": "160"}
        return run_command(["webhook", "spools", *arguments], settings)

    orphaned = [{"process": "gone-1", "events": 3, "oldestSeconds": 0}]
    live = {"processes": 1, "events": 2, "oldestSeconds": 0}
    assert json.loads(run("--json").stdout) == {"live": live, "orphaned": orphaned}
    assert "gone-1" in run().stdout
    assert run("forget", "gone-1").returncode == 0
    assert run("forget", "here-1").returncode == 1
    assert json.loads(run("--json").stdout) == {"live": live, "orphaned": []}


def test_spools_are_not_known_without_redis(migrated_sqlite_url: str) -> None:
    settings = {"DATABASE_URL": migrated_sqlite_url, "REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
    failed = run_command(["webhook", "spools"], settings)
    assert (failed.returncode, failed.stderr) == (
        1,
        "SERVICE_UNAVAILABLE: Redis does not answer: what waits in spools is not known.\n",
    )
