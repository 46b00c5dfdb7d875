"""`safevideo kyc show|sync|documents cleanup`: requests beside what Sharegram reported, and the files of documents."""

import asyncio
from typing import Annotated

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.jobs import Timeout, print_job, wait_and_print
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_lines, print_table
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.errors import KycRequestNotFound
from safevideo_common.jobs.model import Job
from safevideo_common.jobs.service import JobService
from safevideo_common.kyc.requests import CLEANUP_CONFIRMED, RESYNC_REQUESTED, cleanup_job, resync_job
from safevideo_common.kyc.standing import KycStandingDocument, standing

app = typer.Typer(no_args_is_help=True)
documents_app = typer.Typer(no_args_is_help=True)
app.add_typer(documents_app, name="documents")


@app.callback()
def kyc() -> None:
    """Show KYC requests, and fetch results that did not come."""


@app.command()
def show(
    request_id: Annotated[int, typer.Option("--request-id", min=1, help="A request.")], as_json: AsJson = False
) -> None:
    """Show the status of a request, and the provider's newest result beside the last decision."""
    found = asyncio.run(_standing(request_id))
    if as_json:
        print_json(found)
        return
    print_lines(
        f"Request {request_id} of {found['performerId']}: {found['status']}, expires at {found['expiresAt'] or '-'}"
    )
    if found["reviewReason"]:
        print_lines(f"Waits for a person: {found['reviewReason']}")
    if found["supersededBy"]:
        print_lines(f"Superseded by request {found['supersededBy']}: no later result opens or verifies it again.")
    provider, decision = found["provider"], found["decision"]
    rows = []
    if provider is not None:
        score = "" if provider["riskScore"] is None else f"risk score {provider['riskScore']:g}"
        rows.append(("Sharegram", provider["status"], provider["reportedAt"], score))
    if decision is not None:
        rows.append(("decision", decision["status"], decision["decidedAt"], decision["reason"] or ""))
    print_table(("by", "says", "at (UTC)", "details"), rows)


async def _standing(request_id: int) -> KycStandingDocument:
    async with open_database() as database, database.read_connection() as reading:
        stored = await kyc_requests.get(reading, request_id)
    if stored is None:
        raise KycRequestNotFound(f"There is no KYC request {request_id}.")
    return standing(stored, for_reviewer=True)


@app.command()
def sync(
    request_ids: Annotated[list[int], typer.Option("--request-id", min=1, help="A request; may be repeated.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and show its progress.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Ask Sharegram for the result of each request, and apply it as if its webhook had come."""
    job = asyncio.run(_enqueue(request_ids))
    if wait:
        wait_and_print(job.id, timeout, as_json=as_json)
        return
    print_job(job, as_json=as_json)


async def _enqueue(request_ids: list[int]) -> Job:
    async with open_database() as database:
        async with database.read_connection() as reading:
            found = await kyc_requests.existing(reading, request_ids)
        if missing := sorted(set(request_ids) - set(found)):
            raise KycRequestNotFound(f"There is no KYC request {', '.join(map(str, missing))}.")
        who = caller()
        job = resync_job(found, who.name, who.request_id)
        enqueued = await JobService(database, utc_now).enqueue(job, RESYNC_REQUESTED, who)
    log_action("KYC sync enqueued", who, job_id=enqueued.id)
    return enqueued


@documents_app.callback()
def documents() -> None:
    """The files of documents: compare them with their rows."""


@documents_app.command()
def cleanup(
    adopt_store: Annotated[
        bool, typer.Option("--adopt-store", help="UPLOAD_DIR or UPLOAD_BUCKET is the store of this database.")
    ] = False,
    accept_orphans: Annotated[
        int, typer.Option("--accept-orphans", min=0, metavar="NUMBER", help="So many files without a row may go.")
    ] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and show its result.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Compare files with rows now: a file without a row is deleted a day later. Audited."""
    job = asyncio.run(_clean_up(adopt_store=adopt_store, accept_orphans=accept_orphans))
    if wait:
        wait_and_print(job.id, timeout, as_json=as_json)
        return
    print_job(job, as_json=as_json)


async def _clean_up(*, adopt_store: bool, accept_orphans: int) -> Job:
    who = caller()
    job = cleanup_job(
        adopt_store=adopt_store, accept_orphans=accept_orphans, created_by=who.name, correlation_id=who.request_id
    )
    async with open_database() as database:
        enqueued = await JobService(database, utc_now).enqueue(job, CLEANUP_CONFIRMED, who)
    log_action("KYC document cleanup enqueued", who, job_id=enqueued.id, **job.parameters)
    return enqueued
