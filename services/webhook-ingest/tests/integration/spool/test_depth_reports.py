"""What waits in the spool of a running webhook-ingest is reported for health."""

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
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.service import run_until_failure
from safevideo_common.tasks import running_task
from safevideo_common.webhooks.spool_reports import SpoolReports, SpoolTotal
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually
from webhook_ingest.api import PATH
from webhook_ingest.app import build_app
from webhook_ingest.settings import IngestSettings
from webhook_ingest.spool.reporting import SpoolDepth, report_depth

BODY = json.dumps({
    "event": "performer.profile.updated",
    "timestamp": "2026-11-28T12:00:00Z",
    "data": {"performerId": "sg_1", "changes": {"bio": "x"}},
}).encode()  # fmt: skip


@pytest.fixture
async def reports(redis_url: str) -> AsyncIterator[SpoolReports]:
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        yield SpoolReports(FailFastRedis(redis, seconds=DEADLINE_SECONDS))


async def test_spooled_webhook_is_in_the_report_until_kafka_has_it(
    settings: IngestSettings, ingest_broker: Broker, reports: SpoolReports, redis_url: str, log: FilteringBoundLogger
) -> None:
    settings = settings.model_copy(update={"redis_url": SecretStr(redis_url), "spool_drain_seconds": 0.1})
    secret = settings.sharegram_webhook_secret.get_secret_value().partition(",")[0]
    signature = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    headers = {"X-Sharegram-Signature": f"sha256={signature}", "Content-Type": "application/json"}

    async def has(events: int) -> bool:
        total = await reports.total()
        return (total.processes, total.events) == (1, events)

    no_kafka = KafkaBroker(f"127.0.0.1:{free_port()}")
    async with run_until_failure(build_app(settings, no_kafka, log), settings) as (port, _):
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
            client.post(PATH, data=BODY, headers=headers) as answer,
        ):
            assert answer.status == 200
        await eventually(lambda: has(1))
    assert await reports.total() == SpoolTotal(0, 0, 0.0)
    async with run_until_failure(build_app(settings, ingest_broker, log), settings):
        await eventually(lambda: has(0))


async def test_outage_of_redis_is_logged_once(log: FilteringBoundLogger, logs: Path) -> None:
    asked = 0

    def depth() -> SpoolDepth:
        nonlocal asked
        asked += 1
        return SpoolDepth(0, 0, 0.0, False, 0)

    async with open_redis(f"redis://127.0.0.1:{free_port()}", 0) as gone:
        reporting = report_depth(SpoolReports(FailFastRedis(gone)), depth, log, every_seconds=0.001)
        async with running_task(reporting, "spool-report"), asyncio.timeout(DEADLINE_SECONDS):
            while asked < 5:
                await asyncio.sleep(0)
    log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
    lines = (logs / "app.log").read_text().splitlines()
    assert len([line for line in lines if "Spool not reported" in line]) == 1
