"""Claiming jobs from the queue for one process."""

from collections.abc import Iterable, Mapping, Sequence
from random import sample
from typing import Final, NamedTuple

from safevideo_common.database.engine import Database
from safevideo_common.database.job_claims import ClaimedJob, Claimer
from safevideo_common.database.job_due import DueJobs, within
from safevideo_common.errors import DatabaseConflict
from safevideo_common.messaging.consuming.pace import Pace

RESET_SHARE: Final = 0.05
"""Of the time, at most, for looking for jobs in backoff that were reset by hand."""
SPARE: Final = 100
"""When others had all that was found, so many more are looked at, and some of them picked: nobody stays behind a row
that somebody keeps locked."""


class Claimed(NamedTuple):
    """What one claim has got."""

    jobs: Sequence[ClaimedJob]
    is_more: bool
    """Whether there may be more to take at once."""


class Claiming:
    """Used by one task at a time."""

    def __init__(
        self, database: Database, job_types: Iterable[str], service: str, worker: str, lease_seconds: float
    ) -> None:
        self._database: Final = database
        self._due: Final = DueJobs(sorted(job_types), service)
        self._claimer: Final = Claimer(worker, lease_seconds)
        self._pace: Final = Pace(RESET_SHARE)
        self._spare = 0

    @property
    def is_crowded(self) -> bool:
        """Whether others had all that the last claim had found."""
        return self._spare > 0

    async def claim(self, limit: int, room: Mapping[str, int]) -> Claimed:
        """Up to `limit` jobs, of a type in `room` no more than it says. Raises `ServiceUnavailable`."""
        found = await self._find(limit + self._spare, room)
        jobs = await self._take(sample(found, min(limit, len(found))) if self._spare else found[:limit])
        self._spare = SPARE if found and not jobs else 0
        return Claimed(jobs, bool(jobs) and len(found) >= limit)

    async def _find(self, limit: int, room: Mapping[str, int]) -> list[int]:
        async with self._database.reading() as reading:
            found = await self._due.find(reading, limit, room)
            if len(found) < limit and self._pace.is_due():
                with self._pace.measured():
                    found += await self._due.find_reset(reading, room)
        return [each.job_id for each in within(room, found)[:limit]]

    async def _take(self, job_ids: Sequence[int]) -> list[ClaimedJob]:
        """Those that are ours now. Another worker who is at the same ones has them first."""
        if not job_ids:
            return []
        try:
            async with self._database.transaction() as tx:
                return await self._claimer.take(tx, job_ids)
        except DatabaseConflict:
            return []
