"""Workers that are killed, frozen or blocked: another one continues, and the zombie writes nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.jobs.worker import WorkerLimits
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness

PROGRAM = Path(__file__).with_name("worker_process.py")
LEASE = 3.0
"""So long that a busy machine renews it in time."""
LIMITS = WorkerLimits(10, 2 * LEASE, 0.05, Backoff(0.05, 0.1))


class WorkerProcess:
    """A worker in its own process, and its output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def read_output(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.output += line.decode()

    async def wait_for_output(self, *words: str) -> None:
        async def is_so() -> bool:
            return all(each in self.output for each in words)

        await eventually(is_so)


@asynccontextmanager
async def worker_process(url: str, lease: float = LEASE) -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, url, str(lease), stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    worker = WorkerProcess(process)
    reading = asyncio.create_task(worker.read_output())
    try:
        yield worker
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()
        await reading


async def answer(job: JobContext) -> Mapping[str, object]:
    return {"by": "test", "cursor": dict(job.cursor or {})}


async def test_job_of_a_killed_worker_continues_at_its_cursor(harness: JobHarness, migrated_url: str) -> None:
    job_id = await harness.enqueue(NewJob("step_on"))
    async with worker_process(migrated_url) as worker:
        await worker.wait_for_output(f"step of {job_id}")
        worker.process.kill()
        await worker.process.wait()
    orphan = await harness.job(job_id)
    async with harness.running({"step_on": FunctionHandler(answer)}, LIMITS):
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert orphan.status is JobStatus.PROCESSING
    assert orphan.cursor is not None
    assert (job.result, job.attempts) == ({"by": "test", "cursor": orphan.cursor}, 2)
    assert await harness.attempts(job_id) == [(1, "lease_lost"), (2, "completed")]


async def test_worker_frozen_past_its_leases_writes_nothing(harness: JobHarness, migrated_url: str) -> None:
    stepping = await harness.enqueue(NewJob("step_on"))
    answering = await harness.enqueue(NewJob("answer_late", {"seconds": 2}))
    async with worker_process(migrated_url) as zombie:
        await zombie.wait_for_output(f"step of {stepping}", f"working on {answering}")
        async with harness.database.transaction():  # so the zombie is in none: frozen, it would keep the lock of SQLite
            zombie.process.send_signal(signal.SIGSTOP)
        async with harness.running(
            {"step_on": FunctionHandler(answer), "answer_late": FunctionHandler(answer)}, LIMITS
        ):
            done = [await harness.wait_for_status(each, JobStatus.COMPLETED) for each in (stepping, answering)]
        zombie.process.send_signal(signal.SIGCONT)
        await zombie.wait_for_output(*(f'"code":"LEASE_LOST","job_id":{each}' for each in (stepping, answering)))
    assert [await harness.job(each) for each in (stepping, answering)] == done
    assert {job.result and job.result["by"] for job in done} == {"test"}
    for each in (stepping, answering):
        assert await harness.attempts(each) == [(1, "lease_lost"), (2, "completed")]


async def test_job_that_always_kills_its_process_fails_after_its_last_attempt(
    harness: JobHarness, migrated_url: str
) -> None:
    job_id = await harness.enqueue(NewJob("kill_the_process", max_attempts=2))
    async with harness.running(
        {"something_else": FunctionHandler(answer)}, WorkerLimits(1, 0.3, 0.05, Backoff(0.05, 0.1))
    ):
        for _ in range(2):
            async with worker_process(migrated_url, 0.3) as worker:
                assert await worker.process.wait() == -signal.SIGKILL
        job = await harness.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.attempts, (job.error or "").partition(":")[0]) == (2, "LEASE_LOST")
    assert await harness.attempts(job_id) == [(1, "lease_lost"), (2, "failed")]


async def test_worker_with_a_blocked_event_loop_reports_it_and_loses_its_lease(
    harness: JobHarness, migrated_url: str, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    async with worker_process(migrated_url) as worker:
        job_id = await harness.enqueue(NewJob("block_the_loop", {"until": str(until)}))
        await worker.wait_for_output(f"blocking in {job_id}")
        async with harness.running({"block_the_loop": FunctionHandler(answer)}, LIMITS):
            job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
            until.touch()
            await worker.wait_for_output("Job heartbeat late", f'"code":"LEASE_LOST","job_id":{job_id}')
    assert job.result == {"by": "test", "cursor": {}}
    assert await harness.job(job_id) == job


async def test_work_in_a_thread_keeps_its_lease(harness: JobHarness, migrated_url: str) -> None:
    async with worker_process(migrated_url), harness.running({"something_else": FunctionHandler(answer)}, LIMITS):
        job_id = await harness.enqueue(NewJob("block_a_thread", {"seconds": 2.5 * LEASE}))
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.result, job.attempts) == ({"by": "program"}, 1)
