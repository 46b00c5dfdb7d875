"""How the tries of jobs ended: a row each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Bulk
from safevideo_common.database.tables import batch_job_tries
from safevideo_common.domain.jobs import TryOutcome

_t: Final = batch_job_tries.c


class JobTry(NamedTuple):
    """One of them, by the columns of the table. `number` counts within a run: a fresh one begins at 1 again."""

    job_id: int
    number: int
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    outcome: TryOutcome
    error: str | None


_INSERT: Final = Bulk(insert(batch_job_tries), JobTry._fields)
_COLUMNS: Final = [_t[name] for name in JobTry._fields]


async def record(tx: AsyncConnection, ended: Sequence[JobTry]) -> None:
    """Write them down. Whoever calls has the jobs' rows locked, or a try would be written twice."""
    await _INSERT.execute(tx, ended)


async def tries_of(reading: AsyncConnection, job_id: int) -> list[JobTry]:
    """How the job's tries ended, the oldest first. The one under way is not among them."""
    rows = await reading.execute(select(*_COLUMNS).where(_t.job_id == job_id).order_by(_t.id))
    return [JobTry(*row)._replace(outcome=TryOutcome(row.outcome)) for row in rows]
