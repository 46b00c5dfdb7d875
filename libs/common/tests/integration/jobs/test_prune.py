"""Pruning of old jobs beside an operator who retries one of them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import utc_now
from safevideo_common.jobs.handler import JobContext, PermanentJobError
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import stats as job_stats
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness


class Interrupted:
    """A transaction in which something else happens after the first statement."""

    def __init__(self, tx: AsyncConnection, between: Callable[[], Awaitable[object]]) -> None:
        self._tx = tx
        self._between = between
        self._statements = 0

    async def execute(self, *arguments: Any) -> Any:
        result = await self._tx.execute(*arguments)
        self._statements += 1
        if self._statements == 1:
            await self._between()
        return result


async def test_job_that_is_retried_while_it_is_pruned_keeps_its_attempts(harness: JobHarness) -> None:
    async def fail(_job: JobContext) -> None:
        raise PermanentJobError("BAD", "it makes no sense")

    async with harness.running({"a": FunctionHandler(fail)}):
        retried, old = [await harness.enqueue(NewJob("a")) for _ in range(2)]
        for job_id in (retried, old):
            await harness.wait_for_status(job_id, JobStatus.FAILED)
            await harness.update_row(job_id, finished_at=utc_now() - timedelta(days=99))
    async with harness.database.transaction() as tx:
        interrupted: Any = Interrupted(tx, lambda: job_admin.retry(tx, retried))
        await job_stats.prune(interrupted, 0, 86400.0, 500)
    assert await harness.attempts(retried) == [(1, "failed")]
    assert await harness.attempts(old) == []
