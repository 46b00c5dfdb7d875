"""`safevideo replay`: a range of a topic, read again beside the live flow."""

import asyncio
from typing import Annotated

import typer

from safevideo_cli.caller import caller
from safevideo_cli.database import opened_database
from safevideo_cli.event_options import From, To
from safevideo_cli.job_output import job_table
from safevideo_cli.jobs import Timeout, exit_as, print_details, waited
from safevideo_cli.output import AsJson, people, print_json, print_table
from safevideo_common.clock import utc_now
from safevideo_common.events.envelope import is_external_id
from safevideo_common.jobs.admin import JobService
from safevideo_common.jobs.serializers import job_document
from safevideo_common.jobs.store.admin import Job
from safevideo_common.replay.request import (
    EVENTS_PER_SECOND,
    MAX_EVENTS_PER_SECOND,
    ReplayParameters,
    enqueue_replay,
)


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
        bool, typer.Option("--force", help="Again wherever nothing newer has been, not only what is missing.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and foresee, and change nothing.")] = False,
    per_second: Annotated[
        int, typer.Option("--events-per-second", min=1, max=MAX_EVENTS_PER_SECOND, help="As fast as that at most.")
    ] = EVENTS_PER_SECOND,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended, with its progress.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Replay what was received between two moments: a dry run first. Cut off, it goes on where it was."""
    asked = ReplayParameters(
        topic,
        target,
        received_from,
        received_to,
        tuple(types or ()),
        tuple(performers or ()),
        dry_run,
        force,
        per_second,
    )  # fmt: skip
    _check_usage(asked)
    job = asyncio.run(_ask(asked))
    if wait:
        details = asyncio.run(waited(job.id, timeout, aloud=not as_json))
        print_details(details, as_json=as_json)
        exit_as(details.job)
    elif as_json:
        print_json(job_document(job))
    else:
        print_table(job_table([job]))
        people.print(f"To see what becomes of it: safevideo jobs wait {job.id}")


def _check_usage(asked: ReplayParameters) -> None:
    faults = asked.faults()
    if not all(map(is_external_id, (*asked.types, *asked.performer_ids))):
        faults["filters"] = "1 to 128 visible ASCII characters each"
    if faults:
        raise typer.BadParameter("; ".join(f"{name}: {reason}" for name, reason in faults.items()))


async def _ask(asked: ReplayParameters) -> Job:
    async with opened_database() as database:
        return await enqueue_replay(JobService(database, utc_now), asked, caller())
