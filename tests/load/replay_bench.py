"""Events a second of `sync-worker` when it replays, beside the live worker: not forced, forced, and dry."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

from consumption import HERE, measure_consumer, publish_events
from measured import program
from payloads import Keys
from rich.table import Table

from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import PERFORMER, SYNC_WORKER
from safevideo_common.jobs.model import FINISHED, Job, JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.replay.request import JOB_TYPE, MAX_EVENTS_PER_SECOND
from safevideo_testkit.databases import created, dropped

ASK_SECONDS: Final = 0.2
GIVE_UP_SECONDS: Final = 120.0
LIVE: Final = "the live worker"


@dataclass(frozen=True)
class Kind:
    """A replay: of a range that is lost, on an empty database, or of one that is there."""

    parameters: Mapping[str, object]
    is_lost: bool


KINDS: Final[Mapping[str, Kind]] = {
    "a lost range, dry": Kind({"dryRun": True}, is_lost=True),
    "a lost range": Kind({"dryRun": False}, is_lost=True),
    "forced, nothing damaged": Kind({"dryRun": False, "force": True}, is_lost=False),
    "not forced, nothing lost": Kind({"dryRun": False}, is_lost=False),
}


def replay_table(environment: Mapping[str, str], folder: Path, keys: Keys, events: int, rounds: int) -> Table:
    """Each one's rate, and its ratio to the live worker's."""
    figures = asyncio.run(measure_replays(environment, folder, keys, events, rounds))
    table = Table("what", "events/s", "to the live worker", title=f"replay, {keys.count} keys")
    for name, per_second in figures.items():
        table.add_row(name, f"{per_second:,.0f}", f"{per_second / figures[LIVE]:.2f}")
    return table


async def measure_replays(
    environment: Mapping[str, str], folder: Path, keys: Keys, events: int, rounds: int
) -> dict[str, float]:
    """The medians of `rounds` rounds. In each the live worker reads what was published, and then it is replayed."""
    measured: dict[str, list[float]] = {name: [] for name in (LIVE, *KINDS)}
    for _ in range(rounds):
        began = utc_now()
        await publish_events(environment["KAFKA_BOOTSTRAP_SERVERS"], range(events), keys)
        full, empty = created(environment["DATABASE_URL"]), created(environment["DATABASE_URL"])
        try:
            for url in (full, empty):
                await migrate(url)
            live = await measure_consumer(("-m", "sync_worker"), {**environment, "DATABASE_URL": full}, folder, events)
            measured[LIVE].append(live.per_second)
            for name, kind in KINDS.items():
                variables = {**environment, "DATABASE_URL": empty if kind.is_lost else full}
                measured[name].append(await _replayed(variables, folder, name, began, events))
        finally:
            for url in (full, empty):
                dropped(url)
    return {name: median(rates) for name, rates in measured.items()}


async def _replayed(environment: Mapping[str, str], folder: Path, name: str, began: datetime, events: int) -> float:
    asked = {
        "topic": PERFORMER,
        "target": SYNC_WORKER,
        "from": rfc3339(began),
        "eventsPerSecond": MAX_EVENTS_PER_SECOND,
        **KINDS[name].parameters,
    }
    variables = {**environment, "HOST": "127.0.0.1", "PORT": "0", "PYTHONPATH": str(HERE)}
    async with Database.open(environment["DATABASE_URL"]) as database:
        async with database.transaction() as tx:
            job_id = (await job_admin.enqueue(tx, NewJob(JOB_TYPE, asked, runner=SYNC_WORKER))).job_id
        with program((sys.executable, "-m", "sync_worker"), variables, folder / "replay.out"):
            job = await _ended(database, job_id)
    if job.status is not JobStatus.COMPLETED or (job.result or {}).get("events") != events:
        raise RuntimeError(f"the {name} ended as {job.status}, {job.error}: {job.result}")
    assert job.started_at is not None
    assert job.finished_at is not None
    return events / (job.finished_at - job.started_at).total_seconds()


async def _ended(database: Database, job_id: int) -> Job:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            async with database.read_connection() as reading:
                job = await job_admin.get(reading, job_id)
            if job.status in FINISHED:
                return job
            await asyncio.sleep(ASK_SECONDS)
