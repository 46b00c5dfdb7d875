"""An operator who redrives dead events and replays topics while everything else fails."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import cycle

from sqlalchemy import func, select

from safevideo_common.audit.store import Caller
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs
from safevideo_common.errors import DatabaseConflict, ServiceUnavailable
from safevideo_common.events.topics import KYC, KYC_WORKER, OTHER, PERFORMER, SYNC_WORKER
from safevideo_common.inbox.redrive import RedriveService
from safevideo_common.inbox.store.redrive import RedriveFilter
from safevideo_common.jobs.model import JobStatus
from safevideo_common.jobs.service import JobService
from safevideo_common.replay.request import JOB_TYPE, MAX_EVENTS_PER_SECOND, ReplayParameters, enqueue_replay
from safevideo_testkit.eventually import eventually

PAUSE_SECONDS = 2.0
REDRIVEN_AT_ONCE = 10
KINDS = (
    (PERFORMER, SYNC_WORKER, True),
    (KYC, KYC_WORKER, False),
    (PERFORMER, SYNC_WORKER, False),
    (OTHER, SYNC_WORKER, True),
)
"""Topic, worker and force. A KYC event that waits for its request may not overtake another one by force."""
_CALLER = Caller("chaos-operator", "admin", None, "chaos")
_UNFINISHED = (JobStatus.QUEUED, JobStatus.PROCESSING)


class ChaosOperator:
    """Redrives and replays, which must change nothing. `counts` says how many there were."""

    def __init__(self, database: Database, since: datetime, until: datetime) -> None:
        """Replay what was received in this time: the workers have consumed it. Before it are records of other tests."""
        self.counts = Counter[str]()
        self._database = database
        self._since, self._until = since, until
        self._redrives = RedriveService(database, utc_now)
        self._jobs = JobService(database, utc_now)

    async def run(self) -> None:
        """Redrive and replay until cancelled. A few replays are queued at a time."""
        kinds = cycle(KINDS)
        kind = next(kinds)
        while True:
            with suppress(ServiceUnavailable, DatabaseConflict):
                if await self._count_replays(_UNFINISHED) < len(KINDS):
                    await self._replay(*kind)
                    kind = next(kinds)
                report = await self._redrives.run(RedriveFilter(), _CALLER, REDRIVEN_AT_ONCE)
                self.counts["events redriven"] += report.redriven
            await asyncio.sleep(PAUSE_SECONDS)

    async def wait_for_replays(self, seconds: float) -> Sequence[str]:
        """Return the replays that failed, once all have ended."""

        async def is_so() -> bool:
            try:
                return not await self._count_replays(_UNFINISHED)
            except ServiceUnavailable:
                return False

        await eventually(is_so, seconds, poll_seconds=0.25)
        failed = await self._count_replays((JobStatus.FAILED, JobStatus.CANCELLED))
        return [f"{failed} replays failed"] if failed else []

    async def _replay(self, topic: str, worker: str, force: bool) -> None:
        parameters = ReplayParameters(
            topic,
            worker,
            since=self._since,
            until=self._until,
            dry_run=False,
            force=force,
            events_per_second=MAX_EVENTS_PER_SECOND,
        )
        await enqueue_replay(self._jobs, parameters, _CALLER)
        self.counts["forced replays" if force else "replays"] += 1

    async def _count_replays(self, statuses: Sequence[JobStatus]) -> int:
        c = batch_jobs.c
        query = select(func.count()).where(c.job_type == JOB_TYPE, c.status.in_(statuses))
        async with self._database.read_connection() as connection:
            return int(await connection.scalar(query) or 0)
