"""`safevideo jobs list|show|retry|cancel|wait`: work that takes long, and what became of it."""

import asyncio
from typing import Annotated

import typer

from safevideo_cli.caller import caller
from safevideo_cli.database import opened_database
from safevideo_cli.event_options import From, Sorted, To
from safevideo_cli.job_output import job_facts, job_table
from safevideo_cli.output import AsJson, people, print_json, print_table
from safevideo_cli.waiting import ended
from safevideo_common.clock import utc_now
from safevideo_common.database.paging import Order
from safevideo_common.jobs.admin import JobDetails, JobService
from safevideo_common.jobs.model import REASON_LENGTH, JobStatus, Priority
from safevideo_common.jobs.serializers import details_document, job_document
from safevideo_common.jobs.store.admin import Job, JobFilter

app = typer.Typer(help="Work that takes long, and what became of it.", no_args_is_help=True)

JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=10**18 - 1)]
Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most; it goes on all the same.")]


@app.command(name="list")
def list_jobs(
    job_type: Annotated[str | None, typer.Option("--type", help="Such as event_replay.")] = None,
    status: JobStatus | None = None,
    priority: Priority | None = None,
    runner: Annotated[str | None, typer.Option(help="The service that alone may run it.")] = None,
    created_from: From = None,
    created_to: To = None,
    page: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    order: Annotated[Sorted, typer.Option(help="By id.")] = Sorted.DESC,
    as_json: AsJson = False,
) -> None:
    """Show the jobs that match, the newest first."""
    wanted = JobFilter(job_type, status, priority, runner, created_from, created_to)
    found, total = asyncio.run(_found(wanted, page, limit, "asc" if order is Sorted.ASC else "desc"))
    if as_json:
        print_json({"jobs": [job_document(job) for job in found], "total": total})
    else:
        print_table(job_table(found))
        people.print(f"{len(found)} of {total}")


@app.command()
def show(job: JobId, as_json: AsJson = False) -> None:
    """Show one job, how its tries ended, and its result."""
    print_details(asyncio.run(_one(job)), as_json=as_json)


@app.command()
def retry(job: JobId, as_json: AsJson = False) -> None:
    """Run a finished job again, from its beginning."""
    _print_job(asyncio.run(_retry(job)), as_json=as_json)


@app.command()
def cancel(
    job: JobId,
    reason: Annotated[str, typer.Option(help="Why; the job keeps it.")] = "cancelled by command",
    as_json: AsJson = False,
) -> None:
    """Cancel a job: at once while it is queued, at its next checkpoint while it is running."""
    if not 1 <= len(reason) <= REASON_LENGTH:
        raise typer.BadParameter(f"a reason has 1 to {REASON_LENGTH} characters")
    _print_job(asyncio.run(_cancel(job, reason)), as_json=as_json)


@app.command()
def wait(job: JobId, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait for a job to end. Exit code 0 says that it is completed; 1: failed, cancelled, or not ended in time."""
    details = asyncio.run(waited(job, timeout, aloud=not as_json))
    print_details(details, as_json=as_json)
    exit_as(details.job)


async def waited(job_id: int, seconds: float | None, *, aloud: bool) -> JobDetails:
    """The job once it is finished, or as it is after `seconds`; its progress is shown when it is `aloud`."""
    async with opened_database() as database:
        return await ended(JobService(database, utc_now), job_id, seconds, aloud=aloud)


def print_details(details: JobDetails, *, as_json: bool) -> None:
    """All of one job."""
    if as_json:
        print_json(details_document(details, utc_now()))
    else:
        people.print(job_facts(details, utc_now()))


def exit_as(job: Job) -> None:
    """Go on when the job is completed, else end the command with 1."""
    if job.status is not JobStatus.COMPLETED:
        raise typer.Exit(1)


def _print_job(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job_document(job))
    else:
        print_table(job_table([job]))


async def _found(wanted: JobFilter, page: int, limit: int, order: Order) -> tuple[list[Job], int]:
    async with opened_database() as database:
        return await JobService(database, utc_now).page(wanted, page=page, limit=limit, order=order)


async def _one(job_id: int) -> JobDetails:
    async with opened_database() as database:
        return await JobService(database, utc_now).one(job_id)


async def _retry(job_id: int) -> Job:
    async with opened_database() as database:
        return await JobService(database, utc_now).retry(job_id, caller())


async def _cancel(job_id: int, reason: str) -> Job:
    async with opened_database() as database:
        return await JobService(database, utc_now).cancel(job_id, reason, caller())
