"""`safevideo replay`."""

import asyncio
from typing import Annotated

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.jobs import Timeout, print_job, wait_and_print
from safevideo_cli.options import AsJson, From, To
from safevideo_cli.output import print_lines
from safevideo_common.clock import utc_now
from safevideo_common.events.envelope import is_external_id
from safevideo_common.jobs.model import Job
from safevideo_common.jobs.service import JobService
from safevideo_common.replay.request import (
    EVENTS_PER_SECOND,
    MAX_EVENTS_PER_SECOND,
    ReplayParameters,
    enqueue_replay,
)

app = typer.Typer()


@app.callback(invoke_without_command=True)
def replay(
    topic: Annotated[str, typer.Option(help="Such as sharegram.performer.v1.")],
    target: Annotated[str, typer.Option(help="The worker that applies it: kyc-worker or sync-worker.")],
    received_from: From = None,
    received_to: To = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="Only this type; may be repeated.")] = None,
    performers: Annotated[
        list[str] | None, typer.Option("--performer", help="Only this performer, by Sharegram's id; may be repeated.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Re-apply events that were already applied. Fields that a newer event wrote stay."
        ),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="The whole topic, without any filter.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Preview the result; this is the default without --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Apply the events.")] = False,
    per_second: Annotated[
        int, typer.Option("--events-per-second", min=1, max=MAX_EVENTS_PER_SECOND, help="Rate limit.")
    ] = EVENTS_PER_SECOND,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and show its progress.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Replay what was received in a range of time. Without --yes it is a dry run, which changes nothing.

    An interrupted replay goes on where it was.
    """
    if dry_run and yes:
        raise typer.BadParameter("--dry-run and --yes exclude each other")
    if every is any((received_from, received_to, types, performers)):
        raise typer.BadParameter("say which events by a time, --type or --performer, or --all and none of these")
    request = ReplayParameters(
        topic,
        target,
        received_from,
        received_to,
        tuple(types or ()),
        tuple(performers or ()),
        not yes,
        force,
        per_second,
    )
    _check_usage(request)
    job = asyncio.run(_enqueue(request))
    if wait:
        wait_and_print(job.id, timeout, as_json=as_json)
        return
    print_job(job, as_json=as_json)
    if not as_json:
        if not yes:
            print_lines("This is a dry run: it changes nothing. To apply the events: --yes")
        print_lines(f"To wait for its result: safevideo jobs wait {job.id}")


def _check_usage(request: ReplayParameters) -> None:
    faults = request.faults()
    if not all(map(is_external_id, (*request.types, *request.performer_ids))):
        faults["filters"] = "1 to 128 visible ASCII characters each"
    if faults:
        raise typer.BadParameter("; ".join(f"{name}: {reason}" for name, reason in faults.items()))


async def _enqueue(request: ReplayParameters) -> Job:
    operator = caller()
    async with open_database() as database:
        job = await enqueue_replay(JobService(database, utc_now), request, operator)
    log_action(
        "Replay enqueued",
        operator,
        job_id=job.id,
        topic=request.topic,
        target=request.target,
        dry_run=request.dry_run,
        force=request.force,
    )
    return job
