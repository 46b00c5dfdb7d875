"""The check `webhooks` of health: nothing came, some were refused, all were refused; what waits in spools."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.health.checks import CheckResult, CheckStatus, webhooks_result
from gateway.health.spools import OrphanedSpoolMonitor
from gateway.settings import GatewaySettings
from safevideo_common.cache.redis import open_redis
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.tasks import running_task
from safevideo_common.webhooks.spool_reports import SpoolReport, SpoolReports
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually

NOW = datetime(2026, 11, 24, 12, 1, tzinfo=UTC)
NOW_SECONDS = NOW.timestamp()


@pytest.fixture
async def spools(settings: GatewaySettings) -> AsyncIterator[SpoolReports]:
    async with open_redis(settings.redis_url.get_secret_value(), 0, seconds=DEADLINE_SECONDS) as redis:
        yield SpoolReports(FailFastRedis(redis, seconds=DEADLINE_SECONDS), lambda: NOW_SECONDS)


async def test_webhooks_check_warns_of_what_waits_in_spools(database: Database, spools: SpoolReports) -> None:
    await spools.write("one", SpoolReport("x", 0, 0.0))
    assert await webhooks_result(database, spools, NOW) == CheckResult(
        CheckStatus.HEALTHY, "none accepted yet; 0 refused in 5 minutes; 0 in the quarantine; 0 in the spool"
    )
    await spools.write("other", SpoolReport("x", 12, NOW_SECONDS - 80.2))
    waiting = await webhooks_result(database, spools, NOW)
    assert waiting.status is CheckStatus.WARNING
    assert waiting.message.endswith("; 12 in the spool, the oldest for 80 s")


async def test_webhooks_check_names_spools_without_a_process(database: Database, spools: SpoolReports) -> None:
    await spools.write("one", SpoolReport("x", 0, 0.0))
    await spools.write_last("gone", SpoolReport("y", 3, NOW_SECONDS), is_disk_empty=False)
    left = await webhooks_result(database, spools, NOW)
    assert left.status is CheckStatus.WARNING
    assert left.message.endswith("; 0 in the spool; 3 in spools without a process (gone)")


async def test_monitor_counts_orphaned_events_and_logs_each_spool_once(
    spools: SpoolReports, log: FilteringBoundLogger, logs: Path
) -> None:
    await spools.write_last("gone", SpoolReport("y", 3, NOW_SECONDS), is_disk_empty=False)
    registry = CollectorRegistry()
    monitor = OrphanedSpoolMonitor(spools, registry, log, poll_seconds=0.001)

    async def shows(events: int) -> bool:
        return registry.get_sample_value("safevideo_spool_orphaned_events") == events

    async with running_task(monitor.run(), "orphaned-spools"):
        await eventually(lambda: shows(3))
        await spools.write_last("other", SpoolReport("z", 4, NOW_SECONDS), is_disk_empty=False)
        await eventually(lambda: shows(7))
        assert await spools.forget("gone")
        await eventually(lambda: shows(4))
    lines = (logs / "app.log").read_text().splitlines()
    assert [line.partition(" process=")[2] for line in lines if "SPOOL_ORPHANED" in line] == [
        "gone events=3", "other events=4"
    ]  # fmt: skip


async def test_webhooks_check_knows_the_spool_without_the_database(spools: SpoolReports) -> None:
    await spools.write("one", SpoolReport("x", 12, NOW_SECONDS - 80.2))
    async with Database.open(f"mysql+aiomysql://root@127.0.0.1:{free_port()}/nowhere") as gone:
        result = await webhooks_result(gone, spools, NOW)
    assert (result.status, result.message.endswith(" 12 in the spool, the oldest for 80 s")) == (
        CheckStatus.UNHEALTHY,
        True,
    )


async def test_webhooks_check_says_that_the_spool_is_not_known_without_redis(database: Database) -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}", 0) as gone:
        result = await webhooks_result(database, SpoolReports(FailFastRedis(gone)), NOW)
    assert result.message.endswith("; spool not known without Redis")


Quarantine = Any  # of this folder's conftest.py


async def test_webhooks_check_is_unhealthy_if_all_webhooks_of_five_minutes_were_refused(
    database: Database, spools: SpoolReports, quarantine: Quarantine, record: Callable[..., Awaitable[None]]
) -> None:
    quiet = CheckResult(
        CheckStatus.HEALTHY, "none accepted yet; 0 refused in 5 minutes; 0 in the quarantine; spool not reported"
    )
    assert await webhooks_result(database, spools, NOW) == quiet
    await quarantine.keep_many(2)
    only_refused = await webhooks_result(database, spools, NOW)
    assert only_refused.status is CheckStatus.UNHEALTHY
    assert only_refused.message == (
        "none accepted yet; 2 refused in 5 minutes (signature_mismatch); 2 in the quarantine; spool not reported"
    )
    await record("evt-1", received_at=NOW)
    some_refused = await webhooks_result(database, spools, NOW)
    assert some_refused.status is CheckStatus.WARNING
    assert some_refused.message.startswith("last accepted 2026-11-24T12:01:00.000Z; 2 refused")
    later = await webhooks_result(database, spools, NOW + timedelta(minutes=6))
    assert later.status is CheckStatus.HEALTHY
    assert later.message.endswith("0 refused in 5 minutes; 2 in the quarantine; spool not reported")
