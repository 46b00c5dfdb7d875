"""Where a job goes on, written by the work that has come so far."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.tables import batch_jobs

_SAVE: Final = update(batch_jobs).where(batch_jobs.c.id == bindparam("job_id"))


async def save(tx: AsyncConnection, job_id: int, cursor: Mapping[str, object]) -> None:
    """Save it in the transaction of a step, which has checked the lease and locked the row."""
    await tx.execute(_SAVE.values(cursor=dict(cursor)), {"job_id": job_id})
