"""What waits in a spool is reported, also without its process, and `deliver-spool` delivers it then."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.port import Broker
from safevideo_common.cache.redis import open_redis
from safevideo_common.events.topics import PERFORMER
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.service import run_until_failure
from safevideo_common.tasks import running_task
from safevideo_common.webhooks.spool_reports import Depth, SpoolReports
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.broker_helpers import read_by_key
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually
from webhook_ingest.api import PATH
from webhook_ingest.app import build_app, deliver_spool
from webhook_ingest.settings import IngestSettings
from webhook_ingest.spool.directory import SpoolDirectory
from webhook_ingest.spool.reporting import SpoolDepth, SpoolReporter

BODY = json.dumps({
    "event": "performer.profile.updated",
    "timestamp": "2026-11-28T12:00:00Z",
    "data": {"performerId": "sg_1", "changes": {"bio": "x"}},
}).encode()  # fmt: skip


@pytest.fixture
async def reports(redis_url: str) -> AsyncIterator[SpoolReports]:
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        yield SpoolReports(FailFastRedis(redis, seconds=DEADLINE_SECONDS))


@pytest.fixture
def reporting_settings(settings: IngestSettings, redis_url: str) -> IngestSettings:
    return settings.model_copy(update={"redis_url": SecretStr(redis_url), "spool_drain_seconds": 0.1})


async def _spool_one(
    settings: IngestSettings, log: FilteringBoundLogger, reports: SpoolReports, *, events: int = 1
) -> None:
    """Run a process that accepts one webhook without Kafka, and end it. Then the disk has `events`."""
    secret = settings.sharegram_webhook_secret.get_secret_value().partition(",")[0]
    signature = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    headers = {"X-Sharegram-Signature": f"sha256={signature}", "Content-Type": "application/json"}
    no_kafka = KafkaBroker(f"127.0.0.1:{free_port()}")
    async with run_until_failure(build_app(settings, no_kafka, log), settings) as (port, _):
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
            client.post(PATH, data=BODY, headers=headers) as answer,
        ):
            assert answer.status == 200
        await eventually(lambda: _has(reports, processes=1, events=events))


async def _has(reports: SpoolReports, *, processes: int, events: int) -> bool:
    summary = await reports.summarize()
    return (summary.processes, summary.live.events, summary.orphaned) == (processes, events, [])


async def test_spooled_webhook_is_reported_until_kafka_has_it(
    reporting_settings: IngestSettings, ingest_broker: Broker, reports: SpoolReports, log: FilteringBoundLogger
) -> None:
    await _spool_one(reporting_settings, log, reports)
    (orphaned,) = (await reports.summarize()).orphaned
    assert orphaned.events == 1
    async with run_until_failure(build_app(reporting_settings, ingest_broker, log), reporting_settings):
        await eventually(lambda: _has(reports, processes=1, events=0))
    assert await reports.summarize() == (0, Depth(0, 0.0), [])


async def test_spool_of_a_process_that_is_gone_is_delivered_once_and_its_report_ends(
    reporting_settings: IngestSettings, ingest_broker: Broker, reports: SpoolReports, log: FilteringBoundLogger
) -> None:
    await _spool_one(reporting_settings, log, reports)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await deliver_spool(reporting_settings, ingest_broker, log) == []
        assert await deliver_spool(reporting_settings, ingest_broker, log) == []
    assert [len(values) for values in (await read_by_key(ingest_broker, PERFORMER)).values()] == [1]
    assert await reports.summarize() == (0, Depth(0, 0.0), [])


async def test_report_of_a_process_ends_once_another_reports_its_events(
    reporting_settings: IngestSettings, reports: SpoolReports, log: FilteringBoundLogger
) -> None:
    for events in (1, 2, 3):
        await _spool_one(reporting_settings, log, reports, events=events)
        assert [each.events for each in (await reports.summarize()).orphaned] == [events]


async def test_events_are_counted_though_the_next_process_was_killed_before_it_looked_for_them(
    reports: SpoolReports, log: FilteringBoundLogger, redis_url: str, tmp_path: Path
) -> None:
    """Both have the same host and process id, as a container that is started again."""
    own = SpoolDirectory.create(tmp_path)
    first, second = SpoolReporter(reports, tmp_path, log), SpoolReporter(reports, tmp_path, log)
    async with running_task(first.run(lambda: SpoolDepth(5, 1, 0.0, False, 0, frozenset({own.path.name}))), "first"):
        await eventually(lambda: _has(reports, processes=1, events=5))
    await _kill_all(redis_url)
    async with running_task(second.run(lambda: SpoolDepth(0, 0, 0.0, False, 0)), "second"):
        await eventually(lambda: _has(reports, processes=1, events=5))
    await _kill_all(redis_url)
    assert [each.events for each in (await reports.summarize()).orphaned] == [5]
    own.unlock()


async def _kill_all(redis_url: str) -> None:
    """Let the marks of all that live expire, as after their time."""
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        await redis.delete(*[key async for key in redis.scan_iter(match="webhooks:spool:*")])


async def test_delivery_names_what_another_process_has(
    reporting_settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    own = SpoolDirectory.create(reporting_settings.spool_dir)
    (own.path / "1.spool").touch()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await deliver_spool(reporting_settings, ingest_broker, log) == [own.path]
    own.unlock()


async def test_outage_of_redis_is_logged_once(log: FilteringBoundLogger, logs: Path, tmp_path: Path) -> None:
    asked = 0

    def depth() -> SpoolDepth:
        nonlocal asked
        asked += 1
        return SpoolDepth(0, 0, 0.0, False, 0)

    async with open_redis(f"redis://127.0.0.1:{free_port()}", 0) as gone:
        reporter = SpoolReporter(SpoolReports(FailFastRedis(gone)), tmp_path, log, every_seconds=0.001)
        async with running_task(reporter.run(depth), "spool-report"), asyncio.timeout(DEADLINE_SECONDS):
            while asked < 5:
                await asyncio.sleep(0)
    log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
    lines = (logs / "app.log").read_text().splitlines()
    assert len([line for line in lines if "Spool not reported" in line]) == 1
