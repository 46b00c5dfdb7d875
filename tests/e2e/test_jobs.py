"""Jobs in a worker as it is deployed: a message wakes it, and SIGTERM drains it."""

from pathlib import Path

import aiohttp
import pytest

from kyc_worker.app import build_app
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.jobs.maintenance import JOB_HOUSEKEEPING
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import run_until_failure
from safevideo_testkit.all_services import environment, settings_of
from safevideo_testkit.eventually import eventually
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.stacks import REAL, StackUnderTest

NO_POLL = {"job_poll_seconds": 60}


async def enqueue(database: Database, job: NewJob) -> int:
    async with database.transaction() as tx:
        return (await job_admin.enqueue(tx, job)).job_id


async def completes(database: Database, job_id: int) -> None:
    async def is_completed() -> bool:
        async with database.read_connection() as reading:
            return (await job_admin.get(reading, job_id)).status is JobStatus.COMPLETED

    await eventually(is_completed)


async def test_worker_is_woken_by_a_message_and_counts_its_jobs(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    settings = KycWorkerSettings.model_validate(settings_of(stack) | NO_POLL)
    app = build_app(settings, broker, log)
    async with Database.open(stack.database_url) as database, run_until_failure(app, settings) as (port, failed):
        for _ in range(3):
            await completes(database, await enqueue(database, NewJob(JOB_HOUSEKEEPING, runner="kyc-worker")))
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
            metrics = await response.text()
        assert not failed.done()
    assert 'safevideo_jobs_claimed_total{job_type="job_housekeeping"}' in metrics
    assert 'safevideo_job_attempts_total{job_type="job_housekeeping",outcome="completed"}' in metrics


@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_worker_with_jobs_exits_with_0_after_sigterm(
    stack: StackUnderTest, broker: Broker, tmp_path: Path
) -> None:
    await broker.probe()
    worker = ServiceProcess("kyc_worker", environment(stack) | {"JOB_POLL_SECONDS": "60"}, tmp_path / "out")
    await worker.start()
    async with Database.open(stack.database_url) as database:
        await completes(database, await enqueue(database, NewJob(JOB_HOUSEKEEPING)))
    assert await worker.stop() == 0, worker.output()[-2000:]
