"""Under faults of workers and database, each step of each run of a job is done once, in order, and each job ends.

The plan has each kind of fault, and the test asserts that each had its effect. `make chaos` has more jobs and more
faults; `CHAOS_JOBS` and `CHAOS_SECONDS` set both, `CHAOS_SEED` repeats the plan. Run with `-s` to see the faults.
"""

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from sqlalchemy import func, select, text

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.model import FINISHED, AttemptOutcome, Job, JobAttempt, JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_devstack.backends import RunningServer
from safevideo_testkit.chaos.job_worker import LEASE_SECONDS, steps
from safevideo_testkit.chaos.workers import running_fleet
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.faults.process_faults import JOB_FAULTS, Chaos, plan

JOBS = int(os.environ.get("CHAOS_JOBS", "30"))
SECONDS = int(os.environ.get("CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
WORKER = "safevideo_testkit.chaos.job_worker"
STEPS = 40
MAX_ATTEMPTS = 1000
"""So many that a job that is often interrupted does not fail."""
Step = tuple[str, int]
"""The name of a run, and the number of a step."""
SETTLE_SECONDS = 300.0 + JOBS / 2


@dataclass
class Operator:
    """An operator who runs jobs in any state again, in the way that the contract describes."""

    database: Database
    job_ids: list[int]
    dice: random.Random
    resets: Counter[int] = field(default_factory=Counter)
    """The attempts by job. A commit without an answer may have succeeded."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.dice.uniform(0.1, 0.5))
            job_id = self.dice.choice(self.job_ids)
            self.resets[job_id] += 1
            with suppress(ServiceUnavailable):
                async with self.database.transaction() as tx:
                    statement = "UPDATE batch_jobs SET status = 'queued', error = NULL WHERE id = :id"
                    await tx.execute(text(statement), {"id": job_id})


async def test_workers_do_each_step_once_and_end_each_job_under_faults(
    migrated_mysql_database: str, mysql_server: RunningServer, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": migrated_mysql_database}
    async with (
        Database.open(migrated_mysql_database) as database,
        running_fleet(environment, tmp_path, each=3, services=[WORKER]) as fleet,
    ):
        job_ids = await enqueue_all(database)
        chaos = Chaos(fleet, (), mysql_server, migrated_mysql_database, SEED)
        operator = Operator(database, job_ids, random.Random(SEED))
        async with running_task(operator.run()):
            faults = plan(SECONDS, SEED, services=[WORKER], kinds=JOB_FAULTS, long_seconds=LEASE_SECONDS)
            await chaos.inject(faults)
        print("\n".join([f"CHAOS_SEED={SEED} CHAOS_JOBS={JOBS} CHAOS_SECONDS={SECONDS}", *chaos.history]))
        await eventually(lambda: all_ended(database), SETTLE_SECONDS)
        wrong = [*await differences(database, job_ids, operator.resets), *fleet.failures]
    print(", ".join(f"{kind}: {times}" for kind, times in sorted(chaos.counts.items())))
    print(f"{sum(operator.resets.values())} times run again by hand")
    assert chaos.counts.keys() == {*JOB_FAULTS}
    assert operator.resets
    assert not wrong, "\n".join(wrong)


async def enqueue_all(database: Database) -> list[int]:
    """Create the table of steps, and enqueue jobs. One job in ten always fails, and one in ten is invalid."""
    async with database.transaction() as tx:
        await tx.run_sync(steps.metadata.create_all)
        types = ("invalid", "failing", *("steady",) * 8)
        return [(await job_admin.enqueue(tx, new(types[number % len(types)]))).job_id for number in range(JOBS)]


def new(job_type: str) -> NewJob:
    return NewJob(job_type, {"steps": STEPS}, max_attempts=3 if job_type == "failing" else MAX_ATTEMPTS)


async def all_ended(database: Database) -> bool:
    unfinished = select(func.count()).where(batch_jobs.c.status.not_in(FINISHED))
    with suppress(ServiceUnavailable):
        async with database.read_connection() as reading:
            return await reading.scalar(unfinished) == 0
    return False


async def differences(database: Database, job_ids: Iterable[int], resets: Mapping[int, int]) -> list[str]:
    """Return what is wrong, job by job."""
    wrong: list[str] = []
    async with database.read_connection() as reading:
        done: defaultdict[int, list[Step]] = defaultdict(list)
        for job_id, run, number in await reading.execute(
            select(steps.c.job_id, steps.c.run, steps.c.number).order_by(steps.c.id)
        ):
            done[job_id].append((run, number))
        for job_id in job_ids:
            job, attempts = await job_admin.get(reading, job_id), await job_attempts.attempts_of(reading, job_id)
            faults = [
                *faults_of_job(job, attempts),
                *faults_of_steps(job, done[job_id], resets.get(job_id, 0)),
                *faults_of_history(attempts, done[job_id], resets.get(job_id, 0)),
            ]
            wrong += [f"job {job_id} ({job.job_type}): {fault}" for fault in faults]
    return wrong


def faults_of_job(job: Job, attempts: list[JobAttempt]) -> list[str]:
    """Check that the job and its last attempt have the outcome of this type of job."""
    status, error = {
        "steady": (JobStatus.COMPLETED, None),
        "failing": (JobStatus.FAILED, "NOT_YET: a later attempt may succeed"),
        "invalid": (JobStatus.FAILED, "INVALID: the request is invalid"),
    }[job.job_type]
    faults = []
    was_interrupted = job.job_type == "failing" and (job.error or "").startswith("LEASE_LOST")
    if job.status is not status or (job.error != error and not was_interrupted):
        faults.append(f"ended as {job.status}, {job.error}")
    if not attempts or attempts[-1].outcome.value != job.status.value or attempts[-1].number != job.attempts:
        faults.append(f"{job.attempts} attempts, the last of which is {attempts[-1] if attempts else None}")
    return faults


def faults_of_history(attempts: list[JobAttempt], done: list[Step], resets: int) -> list[str]:
    """Check that the history has all runs, and at most one reset for each time the job was run again."""
    runs, lost = len({run for run, _ in done}), sum(each.outcome is AttemptOutcome.RESET for each in attempts)
    faults = [f"its history has {len(attempts)} attempts of {runs} runs"] if runs > len(attempts) else []
    return [*faults, f"{lost} attempts were lost by {resets} resets"] if lost > resets else faults


def faults_of_steps(job: Job, done: list[Step], resets: int) -> list[str]:
    """Check that each run does its steps once, in order, from the first one, and the last run does all."""
    runs = [(run, [number for _, number in its]) for run, its in groupby(done, key=itemgetter(0))]
    faults = [f"run {run} did {numbers}" for run, numbers in runs if numbers != [*range(1, len(numbers) + 1)]]
    if len(runs) > 1 + resets:
        faults.append(f"{len(runs)} runs for {resets} resets: {[run for run, _ in runs]}")
    if job.job_type == "steady" and done[-1:] != [((job.result or {}).get("run"), STEPS)]:
        faults.append(f"its result is {job.result}, its last step {done[-1:]}")
    return faults
