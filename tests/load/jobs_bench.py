"""Jobs: how many a second one process completes, how soon one starts, and what a claim costs in a long table.

`python tests/load/jobs_bench.py` measures all but the latency by itself, on the MySQL or MariaDB of `DATABASE_URL`.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Final, NamedTuple

from aiohttp import ClientSession
from measured import free_port, program, wait_until_listening
from million import MILLION
from rich.console import Console, Group
from rich.table import Table
from sqlalchemy import delete, text

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.database.tables import outbox
from safevideo_common.jobs.maintenance import JOB_HOUSEKEEPING
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.queue import Claimer, DueJobs
from safevideo_testkit.databases import created, dropped

PROGRAM: Final = Path(__file__).parent / "servers" / "jobs.py"
JOBS: Final = {"engine": 10_000, "limit": 10_000, "plain": 500}
ROWS: Final = (1_000, 1_000_000)
CLAIMS: Final = 21
CLAIMED: Final = 20
STARTS: Final = 100
FEW_STARTS: Final = 20
PROGRAM_SECONDS: Final = 60.0
STARTED_WITHIN_SECONDS: Final = 30.0

_NUMBERS: Final = f"{MILLION} WHERE seq <= :rows"
# Every other one is finished, as far as the first half goes: those that wait are the later ones.
_FILL: Final = text(
    "INSERT INTO batch_jobs (job_type, parameters, priority, status, created_at, queued_at, next_try_at, max_tries)"
    " SELECT 'no_op', '{}', ELT(1 + seq % 4, 'low', 'normal', 'high', 'urgent'),"
    " IF(seq <= :finished, 'completed', 'queued'), at, at, at, 5 FROM"
    " (SELECT seq, UTC_TIMESTAMP(6) - INTERVAL 1 DAY + INTERVAL seq MICROSECOND AS at FROM"
    f" {_NUMBERS}) AS numbers"
)
_FILL_ALIKE: Final = text(
    "INSERT INTO batch_jobs (job_type, parameters, priority, status, created_at, queued_at, next_try_at, max_tries)"
    " SELECT 'no_op', '{}', 'normal', 'queued', at, at, at, 5 FROM"
    f" (SELECT UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE AS at FROM {_NUMBERS}) AS numbers"
)


class Rate(NamedTuple):
    """Of one way of doing them."""

    per_second: float
    cpu_micros: float


def jobs_table(environment: Mapping[str, str], folder: Path, rounds: int) -> Group:
    """All four tables."""
    server = environment["DATABASE_URL"]
    starts = asyncio.run(_starts(environment, folder))
    return Group(asyncio.run(_rates_table(server, rounds)), _starts_table(starts), asyncio.run(_claims_table(server)))


async def _rates_table(server: str, rounds: int) -> Table:
    measured: dict[str, list[Rate]] = {way: [] for way in JOBS}
    for _ in range(rounds):
        for way, number in JOBS.items():
            measured[way].append(await _rate(server, way, number))
    rates = {way: Rate(*map(median, zip(*each, strict=True))) for way, each in measured.items()}
    table = Table("way", "jobs/s", "CPU µs/job", "to the limit", "to the plain way", title="no-op jobs, one process")
    for way, rate in rates.items():
        ratios = (rate.per_second / rates[other].per_second for other in ("limit", "plain"))
        table.add_row(way, f"{rate.per_second:,.0f}", f"{rate.cpu_micros:,.0f}", *(f"{each:.2f}" for each in ratios))
    return table


async def _rate(server: str, way: str, number: int) -> Rate:
    async with _fresh(server) as url, Database.open(url) as database:
        async with database.transaction() as tx:
            await tx.execute(_FILL_ALIKE, {"rows": number})
        took = await asyncio.to_thread(_run, url, way, number)
        async with database.read_connection() as reading:
            done = await reading.scalar(text("SELECT COUNT(*) FROM batch_jobs WHERE status = 'completed'"))
        if done != number:
            raise RuntimeError(f"{way} has completed {done} of {number} jobs")
    return Rate(number / took["seconds"], took["cpu"] / number * 1e6)


def _run(url: str, way: str, number: int) -> dict[str, float]:
    said = subprocess.run(
        (sys.executable, PROGRAM, way, str(number)),
        env={**os.environ, "DATABASE_URL": url, "SAFEVIDEO_ENV": "development"},
        capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True,
    ).stdout  # fmt: skip
    took: dict[str, float] = json.loads(said.partition("RESULT ")[2])
    return took


@asynccontextmanager
async def _fresh(server: str) -> AsyncIterator[str]:
    url = created(server)
    try:
        await migrate(url)
        yield url
    finally:
        dropped(url)


async def _claims_table(server: str) -> Table:
    table = Table(
        "rows", "of these wait", "claim ms", title=f"a claim of {CLAIMED} jobs, half of the rows being finished"
    )
    for rows in ROWS:
        async with _fresh(server) as url, Database.open(url, timeout=120) as database:
            async with database.transaction() as tx:
                await tx.execute(_FILL, {"rows": rows, "finished": rows // 2})
            table.add_row(f"{rows:,}", f"{rows // 2:,}", f"{await _claim_ms(database):.1f}")
    return table


async def _claim_ms(database: Database) -> float:
    due, claimer, times = DueJobs(("no_op", "another"), "bench"), Claimer("bench", 30.0), []
    for _ in range(CLAIMS):
        began = perf_counter()
        async with database.read_connection() as reading:
            found = [each.job_id for each in await due.find(reading, CLAIMED)]
        async with database.transaction() as tx:
            taken = await claimer.claim(tx, found)
        times.append((perf_counter() - began) * 1000)
        if len(taken) != CLAIMED:
            raise RuntimeError("a claim has found too few jobs")
    return median(times[CLAIMS // 4 :])  # what is left of the filling is in the way of the first


class Starts(NamedTuple):
    """Milliseconds from the row of a job to its start, by the database's clock; the worker is idle."""

    asked: list[float]
    relayed: list[float]
    polled: list[float]


async def _starts(environment: Mapping[str, str], folder: Path) -> Starts:
    """A finished job is run again: through the API, by the outbox alone, and with its message lost."""
    async with _fresh(environment["DATABASE_URL"]) as url, Database.open(url) as database:
        async with database.transaction() as tx:
            job_id, _ = await job_admin.enqueue(tx, NewJob(JOB_HOUSEKEEPING))
            key = await api_keys.create(tx, "bench", Role.ADMIN, utc_now(), utc_now() + timedelta(hours=1))
        again = _Again(database, job_id)
        worker, gateway = free_port(), free_port()
        variables = {**environment, "DATABASE_URL": url, "HOST": "127.0.0.1", "RATE_LIMIT_GENERAL": "1000000/1"}
        with (
            program((sys.executable, "-m", "kyc_worker"), {**variables, "PORT": str(worker)}, folder / "worker.out"),
            program((sys.executable, "-m", "gateway"), {**variables, "PORT": str(gateway)}, folder / "gateway.out"),
        ):
            for port in (worker, gateway):
                await asyncio.to_thread(wait_until_listening, port)
            headers = {"X-API-Client": "bench", "X-API-Key": key}
            async with ClientSession(f"http://127.0.0.1:{gateway}", headers=headers) as api:
                await again.has_ended()
                for _ in range(3):
                    await again.start(again.relayed)  # the group has its partitions when these have started
                asked = [await again.start(partial(again.asked, api)) for _ in range(STARTS)]
            relayed = [await again.start(again.relayed) for _ in range(FEW_STARTS)]
            polled = [await again.start(again.unheard) for _ in range(FEW_STARTS)]
    return Starts(asked, relayed, polled)


@dataclass(frozen=True, slots=True)
class _Again:
    """The ways to have the job run again."""

    database: Database
    job_id: int

    async def start(self, queue: Callable[[], Awaitable[None]]) -> float:
        """Milliseconds from the row to the start."""
        await asyncio.sleep(random.uniform(0.05, 0.3))  # at any moment of whatever the worker does by turns
        await queue()
        return await self.has_ended()

    async def asked(self, api: ClientSession) -> None:
        async with api.post(f"/api/v1/admin/jobs/{self.job_id}/retry") as answer:
            answer.raise_for_status()

    async def relayed(self) -> None:
        async with self.database.transaction() as tx:
            await job_admin.retry(tx, self.job_id)

    async def unheard(self) -> None:
        async with self.database.transaction() as tx:
            await job_admin.retry(tx, self.job_id)
            await tx.execute(delete(outbox))

    async def has_ended(self) -> float:
        """Wait for it; milliseconds from its row to its start."""
        async with asyncio.timeout(STARTED_WITHIN_SECONDS):
            while True:
                async with self.database.read_connection() as reading:
                    job = await job_admin.get(reading, self.job_id)
                if job.status is JobStatus.COMPLETED and job.started_at is not None:
                    return (job.started_at - job.queued_at).total_seconds() * 1000
                await asyncio.sleep(0.02)


def _starts_table(starts: Starts) -> Table:
    table = Table("", "jobs", "p50 ms", "p99 ms", "longest ms", title="from enqueue to start, the worker being idle")
    for name, times in starts._asdict().items():
        percentiles = quantiles(times, n=100, method="inclusive")
        figures = (percentiles[49], percentiles[98], max(times))
        table.add_row(name, str(len(times)), *(f"{each:,.0f}" for each in figures))
    return table


if __name__ == "__main__":
    url = os.environ["DATABASE_URL"]
    Console().print(asyncio.run(_rates_table(url, 3)), asyncio.run(_claims_table(url)))
