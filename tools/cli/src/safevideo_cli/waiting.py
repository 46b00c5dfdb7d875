"""Waiting for a job, with its progress to look at."""

import asyncio
from contextlib import nullcontext
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.jobs.admin import JobDetails, JobService
from safevideo_common.jobs.model import FINISHED

LOOK_SECONDS: Final = 1.0
OUTAGE_LOOKS: Final = 30
"""In a row in which the database did not answer: then nobody can say what became of the job."""


async def ended(administration: JobService, job_id: int, seconds: float | None, *, aloud: bool) -> JobDetails:
    """The job once it is finished, or as it is after `seconds`. Raises `JobNotFound`, `DatabaseUnavailable`."""
    progress = _Bar() if aloud else None
    until = None if seconds is None else asyncio.get_running_loop().time() + seconds
    with progress.shown if progress else nullcontext():
        while True:
            details = await _look(administration, job_id)
            if progress:
                progress.tell(details)
            is_over = until is not None and asyncio.get_running_loop().time() >= until
            if details.job.status in FINISHED or is_over:
                return details
            await asyncio.sleep(LOOK_SECONDS)


async def _look(administration: JobService, job_id: int) -> JobDetails:
    for _ in range(OUTAGE_LOOKS):
        try:
            return await administration.one(job_id)
        except DatabaseUnavailable:
            await asyncio.sleep(LOOK_SECONDS)
    return await administration.one(job_id)


class _Bar:
    """On stderr, so that what is printed can be taken up by a script."""

    def __init__(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.shown = Progress(*columns, console=Console(stderr=True))
        self._task = self.shown.add_task("", total=None)

    def tell(self, details: JobDetails) -> None:
        job = details.job
        self.shown.update(
            self._task,
            description=f"{job.job_type} {job.id} {job.status}",
            total=job.total_items,
            completed=job.processed_items,
        )
