"""Workers that are killed, frozen or stuck: another goes on, and the zombie writes nothing. On both engines."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.model import JobStatus
from safevideo_common.jobs.store.admin import NewJob
from safevideo_common.jobs.worker import WorkerLimits
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness

PROGRAM = Path(__file__).with_name("worker_program.py")
LEASE = 2.0
BOUNDS = WorkerLimits(10, LEASE, 0.05, Backoff(0.05, 0.1))


class Program:
    """A worker in a process of its own, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said += line.decode()

    async def says(self, *words: str) -> None:
        async def is_so() -> bool:
            return all(each in self.said for each in words)

        await eventually(is_so)


@asynccontextmanager
async def program(url: str, lease: float = LEASE) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, url, str(lease), stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    running = Program(process)
    listening = asyncio.create_task(running.listen())
    try:
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()
        await listening


async def answer(job: JobContext) -> Mapping[str, object]:
    return {"by": "test", "cursor": dict(job.cursor or {})}


async def test_a_job_whose_worker_is_killed_goes_on_elsewhere_where_it_was(
    bench: JobHarness, database_url: str
) -> None:
    job_id = await bench.enqueue(NewJob("step_on"))
    async with program(database_url) as worker:
        await worker.says(f"step of {job_id}")
        worker.process.kill()
        await worker.process.wait()
    left = await bench.job(job_id)
    async with bench.running({"step_on": FunctionHandler(answer)}, BOUNDS):
        job = await bench.becomes(job_id, JobStatus.COMPLETED)
    assert left.status is JobStatus.PROCESSING
    assert left.cursor is not None
    assert (job.result, job.tries) == ({"by": "test", "cursor": left.cursor}, 2)
    assert await bench.tries(job_id) == [(1, "lease_lost"), (2, "completed")]


async def test_a_worker_that_was_frozen_past_its_leases_writes_nothing_more(
    bench: JobHarness, database_url: str
) -> None:
    stepping = await bench.enqueue(NewJob("step_on"))
    answering = await bench.enqueue(NewJob("answer_late", {"seconds": 5}))
    async with program(database_url) as zombie:
        await zombie.says(f"step of {stepping}", f"working on {answering}")
        zombie.process.send_signal(signal.SIGSTOP)
        async with bench.running({"step_on": FunctionHandler(answer), "answer_late": FunctionHandler(answer)}, BOUNDS):
            done = [await bench.becomes(each, JobStatus.COMPLETED) for each in (stepping, answering)]
        zombie.process.send_signal(signal.SIGCONT)
        await zombie.says(*(f'"code":"LEASE_LOST","job_id":{each}' for each in (stepping, answering)))
    assert [await bench.job(each) for each in (stepping, answering)] == done
    assert {job.result and job.result["by"] for job in done} == {"test"}
    for each in (stepping, answering):
        assert await bench.tries(each) == [(1, "lease_lost"), (2, "completed")]


async def test_a_job_that_kills_its_process_every_time_has_failed_in_the_end(
    bench: JobHarness, database_url: str
) -> None:
    job_id = await bench.enqueue(NewJob("kill_the_process", max_tries=2))
    async with bench.running(
        {"something_else": FunctionHandler(answer)}, WorkerLimits(1, 0.3, 0.05, Backoff(0.05, 0.1))
    ):
        for _ in range(2):
            async with program(database_url, 0.3) as worker:
                assert await worker.process.wait() == -signal.SIGKILL
        job = await bench.becomes(job_id, JobStatus.FAILED)
    assert (job.tries, (job.error or "").partition(":")[0]) == (2, "LEASE_LOST")
    assert await bench.tries(job_id) == [(1, "lease_lost"), (2, "failed")]


async def test_a_loop_that_is_blocked_past_the_lease_is_told_and_loses_it(bench: JobHarness, database_url: str) -> None:
    async with program(database_url) as worker:
        job_id = await bench.enqueue(NewJob("block_the_loop", {"seconds": 6}))
        await worker.says(f"blocking in {job_id}")
        async with bench.running({"block_the_loop": FunctionHandler(answer)}, BOUNDS):
            job = await bench.becomes(job_id, JobStatus.COMPLETED)
            await worker.says("Job heartbeat late", f'"code":"LEASE_LOST","job_id":{job_id}')
    assert job.result == {"by": "test", "cursor": {}}
    assert await bench.job(job_id) == job


async def test_work_that_blocks_off_the_loop_keeps_its_lease(bench: JobHarness, database_url: str) -> None:
    async with program(database_url), bench.running({"something_else": FunctionHandler(answer)}, BOUNDS):
        job_id = await bench.enqueue(NewJob("block_a_thread", {"seconds": 5}))
        job = await bench.becomes(job_id, JobStatus.COMPLETED)
    assert (job.result, job.tries) == ({"by": "program"}, 1)
