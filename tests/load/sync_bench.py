"""A full sync of performers with an endless master, beside one `executemany` of the same rows."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, cast

from rich.table import Table
from sqlalchemy import delete, insert, select

from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.database.tables import outbox, performer_scan_rows, performers
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.performer_sync.request import SYNC_JOB
from safevideo_common.sharegram.client import MAX_PAGE, PerformerPage, SharegramClient
from safevideo_common.sharegram.operations import PerformerProfile, PerformerRecord
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.harness.performer_sync import sync_handlers

NOW: Final = datetime(2026, 11, 24, tzinfo=UTC)


class EndlessMaster:
    """A Sharegram that answers at once, from memory."""

    def __init__(self, count: int, version: int) -> None:
        records = [_record(number, version) for number in range(count)]
        self._pages = [records[begin : begin + MAX_PAGE] for begin in range(0, count, MAX_PAGE)]

    async def performers(self, *_arguments: Any, cursor: str | None, **_options: Any) -> PerformerPage:
        """Return the page of a cursor."""
        number = int(cursor or 0)
        return PerformerPage(self._pages[number], [], str(number + 1) if number + 1 < len(self._pages) else None)


def _record(number: int, version: int) -> PerformerRecord:
    profile = PerformerProfile(
        username=f"name-{number}", display_name=f"Name {number}", email=f"n{number}@example.com",
        profile_image=None, bio=f"Bio {version} of {number}", verified=True,
    )  # fmt: skip
    at = NOW + timedelta(milliseconds=number, days=version)
    return PerformerRecord(f"sg_{number:08}", profile, "active", version, at)


def sync_table(environment: Mapping[str, str], _folder: Path, count: int, rounds: int) -> Table:
    """Return the performers a second, medians of `rounds`."""
    rows = asyncio.run(_measure(environment["DATABASE_URL"], count, rounds))
    table = Table(title=f"a full sync of {count} performers: performers a second, medians of {rounds}")
    for column in ("what", "performers/s", "of the executemany"):
        table.add_column(column)
    limit = rows["one executemany of the same rows"]
    for name, rate in rows.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / limit:.2f}")
    return table


async def _measure(url: str, count: int, rounds: int) -> dict[str, float]:
    await migrate(url)
    logger = build_logger("bench", LogSink(None, stdout=False))
    found: dict[str, list[float]] = {"all are new": [], "all have changed": [], "one executemany of the same rows": []}
    async with Database.open(url, pool_size=7, timeout=120) as database:
        harness = JobHarness(database, logger)
        for _ in range(rounds):
            await _empty(database)
            for name, version in (("all are new", 1), ("all have changed", 2)):
                client = cast("SharegramClient", EndlessMaster(count, version))
                handlers = sync_handlers(database, client, logger, page_size=MAX_PAGE)
                found[name].append(count / await _sync(harness, handlers))
            async with database.read_connection() as connection:
                stored = [row._asdict() for row in await connection.execute(select(performers))]
            await _empty(database)
            found["one executemany of the same rows"].append(count / await _execute_many(database, stored))
    return {name: median(rates) for name, rates in found.items()}


async def _empty(database: Database) -> None:
    async with database.transaction() as tx:
        for table in (performers, performer_scan_rows, outbox):
            await tx.execute(delete(table))


async def _sync(harness: JobHarness, handlers: Mapping[str, JobHandler]) -> float:
    """Return the seconds of the job, from its claim to its end."""
    job_id = await harness.enqueue(NewJob(SYNC_JOB, {"fullSync": True}))
    async with harness.running(handlers):
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert job.started_at is not None
    assert job.finished_at is not None
    return (job.finished_at - job.started_at).total_seconds()


async def _execute_many(database: Database, rows: Sequence[dict[str, Any]]) -> float:
    started = perf_counter()
    async with database.transaction() as tx:
        await tx.execute(insert(performers), rows)
    return perf_counter() - started
