"""How the tries of jobs ended: a row each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Bulk
from safevideo_common.database.tables import batch_job_tries
from safevideo_common.domain.jobs import TryOutcome


class EndedTry(NamedTuple):
    """One of them, by the columns of the table."""

    job_id: int
    number: int
    """Within the run."""
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    outcome: TryOutcome
    error: str | None


_INSERT: Final = Bulk(insert(batch_job_tries), EndedTry._fields)


async def record(tx: AsyncConnection, ended: Sequence[EndedTry]) -> None:
    """Write them down. Whoever calls has the jobs' rows locked, or a try would be written twice."""
    await _INSERT.execute(tx, ended)
