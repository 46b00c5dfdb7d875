"""Whatever befalls workers and database, each step of each run of a job is done once, in order, and each job ends.

The plan has each kind of fault, and the test asserts that each had its effect. `make chaos` has more jobs and more
faults; `CHAOS_JOBS` and `CHAOS_SECONDS` set both, `CHAOS_SEED` repeats the plan. Run with `-s` to see what befell.
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
from safevideo_common.database.migrate import migrate
from safevideo_common.database.tables import batch_jobs
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.model import FINISHED, AttemptOutcome, Job, JobAttempt, JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_devstack.backends import RunningServer
from safevideo_testkit.chaos.job_worker import LEASE_SECONDS, steps
from safevideo_testkit.chaos.workers import running_fleet
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.faults.process_faults import JOBS_ROUND, Chaos, plan

JOBS = int(os.environ.get("CHAOS_JOBS", "60"))
SECONDS = int(os.environ.get("CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
WORKER = "safevideo_testkit.chaos.job_worker"
STEPS = 40
OFTEN = 1000
"""Tries: a job that is cut off in many of them is not to fail of it."""
Step = tuple[str, int]
"""Which run, and which place."""
SETTLES_SECONDS = 300.0 + JOBS / 2


@dataclass
class Operator:
    """Runs jobs again by hand, the very way of the contract, whatever state they are in."""

    database: Database
    job_ids: list[int]
    dice: random.Random
    resets: Counter[int] = field(default_factory=Counter)
    """By job how often it may have been done: of a commit without an answer nobody knows."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.dice.uniform(0.1, 0.5))
            job_id = self.dice.choice(self.job_ids)
            self.resets[job_id] += 1
            with suppress(ServiceUnavailable):
                async with self.database.transaction() as tx:
                    words = "UPDATE batch_jobs SET status = 'queued', error = NULL WHERE id = :id"
                    await tx.execute(text(words), {"id": job_id})


async def test_whatever_befalls_it_each_step_is_done_once_and_each_job_ends(
    fresh_mysql_database: str, mysql_server: RunningServer, tmp_path: Path
) -> None:
    await migrate(fresh_mysql_database)
    environment = {"DATABASE_URL": fresh_mysql_database}
    async with (
        Database.open(fresh_mysql_database) as database,
        running_fleet(environment, tmp_path, each=3, services=[WORKER]) as fleet,
    ):
        job_ids = await queued(database)
        chaos = Chaos(fleet, None, mysql_server, fresh_mysql_database, SEED)
        operator = Operator(database, job_ids, random.Random(SEED))
        async with running_task(operator.run()):
            faults = plan(SECONDS, SEED, services=[WORKER], kinds=JOBS_ROUND, long_seconds=LEASE_SECONDS)
            await chaos.wreak(faults)
        print("\n".join([f"CHAOS_SEED={SEED} CHAOS_JOBS={JOBS} CHAOS_SECONDS={SECONDS}", *chaos.told]))
        await eventually(lambda: all_ended(database), SETTLES_SECONDS)
        wrong = [*await judged(database, job_ids, operator.resets), *fleet.fallen]
    print(", ".join(f"{kind}: {times}" for kind, times in sorted(chaos.counts.items())))
    print(f"{sum(operator.resets.values())} times run again by hand")
    assert chaos.counts.keys() == {*JOBS_ROUND}
    assert operator.resets
    assert not wrong, "\n".join(wrong)


async def queued(database: Database) -> list[int]:
    """The jobs, of which one in ten can never go well and one in ten makes no sense; and the table of their steps."""
    async with database.transaction() as tx:
        await tx.run_sync(steps.metadata.create_all)
        wanted = ("senseless", "never_well", *("steady",) * 8)
        return [(await job_admin.enqueue(tx, new(wanted[number % len(wanted)]))).job_id for number in range(JOBS)]


def new(job_type: str) -> NewJob:
    return NewJob(job_type, {"steps": STEPS}, max_attempts=3 if job_type == "never_well" else OFTEN)


async def all_ended(database: Database) -> bool:
    unfinished = select(func.count()).where(batch_jobs.c.status.not_in(FINISHED))
    with suppress(ServiceUnavailable):
        async with database.read_connection() as reading:
            return await reading.scalar(unfinished) == 0
    return False


async def judged(database: Database, job_ids: Iterable[int], resets: Mapping[int, int]) -> list[str]:
    """What is wrong, job by job."""
    wrong: list[str] = []
    async with database.read_connection() as reading:
        done: defaultdict[int, list[Step]] = defaultdict(list)
        for job_id, run, place in await reading.execute(
            select(steps.c.job_id, steps.c.run, steps.c.place).order_by(steps.c.id)
        ):
            done[job_id].append((run, place))
        for job_id in job_ids:
            job, tries = await job_admin.get(reading, job_id), await job_attempts.attempts_of(reading, job_id)
            faults = [
                *faults_of_job(job, tries),
                *faults_of_steps(job, done[job_id], resets.get(job_id, 0)),
                *faults_of_history(tries, done[job_id], resets.get(job_id, 0)),
            ]
            wrong += [f"job {job_id} ({job.job_type}): {fault}" for fault in faults]
    return wrong


def faults_of_job(job: Job, tries: list[JobAttempt]) -> list[str]:
    """It has ended as its kind does, and its last try says so."""
    status, error = {
        "steady": (JobStatus.COMPLETED, None),
        "never_well": (JobStatus.FAILED, "NOT_YET: it may go better later"),
        "senseless": (JobStatus.FAILED, "NO_SENSE: it was asked for wrongly"),
    }[job.job_type]
    faults = []
    is_cut_off = job.job_type == "never_well" and (job.error or "").startswith("LEASE_LOST")
    if job.status is not status or (job.error != error and not is_cut_off):
        faults.append(f"ended as {job.status}, {job.error}")
    if not tries or tries[-1].outcome.value != job.status.value or tries[-1].number != job.attempts:
        faults.append(f"{job.attempts} tries, the last of which is told as {tries[-1] if tries else None}")
    return faults


def faults_of_history(tries: list[JobAttempt], done: list[Step], resets: int) -> list[str]:
    """No run is missing in it, and no more tries are said to be lost by a reset than there were resets."""
    runs, lost = len({run for run, _ in done}), sum(each.outcome is AttemptOutcome.RESET for each in tries)
    faults = [f"its history has {len(tries)} tries of {runs} runs"] if runs > len(tries) else []
    return [*faults, f"{lost} tries were lost by {resets} resets"] if lost > resets else faults


def faults_of_steps(job: Job, done: list[Step], resets: int) -> list[str]:
    """One run follows the other; each does its steps from the first on, once, in order; the last one does them all."""
    runs = [(run, [place for _, place in its]) for run, its in groupby(done, key=itemgetter(0))]
    faults = [f"run {run} did {places}" for run, places in runs if places != [*range(1, len(places) + 1)]]
    if len(runs) > 1 + resets:
        faults.append(f"{len(runs)} runs for {resets} resets: {[run for run, _ in runs]}")
    if job.job_type == "steady" and done[-1:] != [((job.result or {}).get("run"), STEPS)]:
        faults.append(f"its result is {job.result}, its last step {done[-1:]}")
    return faults
