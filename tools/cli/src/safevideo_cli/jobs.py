"""`safevideo jobs list|show|retry|cancel|wait`."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Final

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.options import After, AsJson, From, Limit, Page, SortOrder, To, Wide, check_sentence
from safevideo_cli.output import (
    format_second,
    print_json,
    print_lines,
    print_table,
    print_yaml,
    stderr_console,
    visible,
)
from safevideo_common.clock import utc_now
from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.jobs.model import FINISHED, Job, JobStatus, Priority
from safevideo_common.jobs.serializers import details_document, job_document
from safevideo_common.jobs.service import JobDetails, JobService
from safevideo_common.jobs.store.admin import JobFilter

POLL_SECONDS: Final = 1.0
MAX_FAILED_POLLS: Final = 30
"""After so many polls in a row without the database the command gives up."""

JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=10**18 - 1)]
Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most; the job goes on after that.")]

app = typer.Typer(no_args_is_help=True)


@app.command(name="list")
def list_jobs(
    job_type: Annotated[str | None, typer.Option("--type", help="Such as event_replay.")] = None,
    status: JobStatus | None = None,
    priority: Priority | None = None,
    runner: Annotated[str | None, typer.Option(help="The service that alone may run it.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Id of the request that enqueued it.")] = None,
    created_from: From = None,
    created_to: To = None,
    page: Page = 1,
    after: After = None,
    limit: Limit = 20,
    order: Annotated[SortOrder, typer.Option(help="By id.")] = SortOrder.DESC,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Show the jobs that match, the newest first."""
    job_filter = JobFilter(job_type, status, priority, runner, created_from, created_to, request_id)
    jobs, total = asyncio.run(_find(job_filter, page, limit, order, after))
    if as_json:
        print_json({"jobs": [job_document(job) for job in jobs], "total": total})
    else:
        print_jobs(jobs, wide=wide)
        print_lines(f"{len(jobs)} of {total}")


@app.command()
def show(job: JobId, as_json: AsJson = False) -> None:
    """Show one job, its attempts, and its result."""
    _print_details(asyncio.run(_get(job)), as_json=as_json)


@app.command()
def retry(
    job: JobId,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin anew, also if the job failed or was cancelled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a finished job again. One that failed or was cancelled goes on where it was."""
    print_job(asyncio.run(_retry(job, from_start=from_start)), as_json=as_json)


@app.command()
def cancel(
    job: JobId,
    reason: Annotated[str, typer.Option(callback=check_sentence, help="Stored with the job.")] = "cancelled by command",
    as_json: AsJson = False,
) -> None:
    """Cancel a job: at once while it is queued, at its next checkpoint while it is running."""
    print_job(asyncio.run(_cancel(job, reason)), as_json=as_json)


@app.command()
def wait(job: JobId, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait for a job to end. Exit code 0: completed; 1: failed, cancelled, or not ended in time."""
    wait_and_print(job, timeout, as_json=as_json)


def wait_and_print(job_id: int, timeout: float | None, *, as_json: bool) -> None:
    """Wait for a job and print it. Raise `typer.Exit` with 1 unless it is completed."""
    details = asyncio.run(_wait(job_id, timeout, quiet=as_json))
    _print_details(details, as_json=as_json)
    if details.job.status is not JobStatus.COMPLETED:
        raise typer.Exit(1)


def print_job(job: Job, *, as_json: bool) -> None:
    """Print one job in short."""
    if as_json:
        print_json(job_document(job))
    else:
        print_jobs([job])


def print_jobs(jobs: Sequence[Job], *, wide: bool = False) -> None:
    """Print a table of jobs."""
    rows = (
        (
            str(job.id), _type(job), job.status, job.priority, f"{job.progress} %",
            f"{job.attempts}/{job.max_attempts}", format_second(job.created_at), job.error or "",
        )
        for job in jobs
    )  # fmt: skip
    columns = ("id", "type", "status", "priority", "done", "tries", "created (UTC)")
    print_table(columns, rows, sentence="error", only_wide=("priority", "tries"), wide=wide)


def _type(job: Job) -> str:
    return f"{job.job_type} (dry run)" if job.parameters.get("dryRun") else job.job_type


def _print_details(details: JobDetails, *, as_json: bool) -> None:
    document = details_document(details, utc_now())
    if as_json:
        print_json(document)
    else:
        print_yaml(document)


async def _find(
    job_filter: JobFilter, page: int, limit: int, order: SortOrder, after: int | None
) -> tuple[Sequence[Job], int]:
    async with open_database() as database:
        return await JobService(database, utc_now).list(
            job_filter, page=page, limit=limit, order=order.value, after=after
        )


async def _get(job_id: int) -> JobDetails:
    async with open_database() as database:
        return await JobService(database, utc_now).get(job_id)


async def _retry(job_id: int, *, from_start: bool) -> Job:
    operator = caller()
    async with open_database() as database:
        job = await JobService(database, utc_now).retry(job_id, operator, from_start=from_start)
    log_action("Job retried", operator, job_id=job.id, job_type=job.job_type)
    return job


async def _cancel(job_id: int, reason: str) -> Job:
    operator = caller()
    async with open_database() as database:
        job = await JobService(database, utc_now).cancel(job_id, reason, operator)
    log_action("Job cancelled", operator, job_id=job.id, job_type=job.job_type)
    return job


async def _wait(job_id: int, timeout: float | None, *, quiet: bool) -> JobDetails:
    """Return the job once it is finished, or as it is after `timeout`. Raise `JobNotFound` or `DatabaseUnavailable`."""
    progress = None if quiet else _ProgressBar()
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    async with open_database() as database:
        service = JobService(database, utc_now)
        with progress.display if progress else nullcontext():
            while True:
                details = await _poll(service, job_id)
                if progress:
                    progress.update(details.job)
                if details.job.status in FINISHED or (deadline is not None and loop.time() >= deadline):
                    return details
                await asyncio.sleep(POLL_SECONDS)


async def _poll(service: JobService, job_id: int) -> JobDetails:
    for _ in range(MAX_FAILED_POLLS):
        try:
            return await service.get(job_id)
        except DatabaseUnavailable:
            await asyncio.sleep(POLL_SECONDS)
    return await service.get(job_id)


class _ProgressBar:
    """A progress bar on stderr; stdout is left to scripts."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.display = Progress(*columns, console=stderr_console())
        self._task = self.display.add_task("", total=None)

    def update(self, job: Job) -> None:
        description = visible(f"{job.job_type} {job.id} {job.status}")
        self.display.update(self._task, description=description, total=job.total_items, completed=job.processed_items)
