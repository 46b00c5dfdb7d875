"""`safevideo events list|show|retry|redrive`: what became of each event, and taking up again what went wrong."""

import asyncio
import sys
from dataclasses import replace
from typing import Annotated, Literal

import typer

from safevideo_cli.caller import caller
from safevideo_cli.database import opened_database
from safevideo_cli.event_options import (
    EventId,
    From,
    Group,
    Performer,
    Redrivable,
    Shown,
    Sorted,
    To,
    Type,
)
from safevideo_cli.event_output import document_with_payload, event_table, report_table
from safevideo_cli.output import AsJson, facts, people, print_json, print_table
from safevideo_common.clock import utc_now
from safevideo_common.database.paging import Order
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import NotFound
from safevideo_common.inbox.redrive import MAX_EVENTS, RedriveReport, RedriveService
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store.queries import InboxFilter, InboxRecord, event_document
from safevideo_common.inbox.store.redrive import RedriveFilter

app = typer.Typer(help="What became of each event, and taking up again what went wrong.", no_args_is_help=True)


@app.command(name="list")
def list_events(
    event_type: Type = None,
    performer: Performer = None,
    status: Annotated[Shown | None, typer.Option(help="What became of it; duplicate: came more than once.")] = None,
    received_from: From = None,
    received_to: To = None,
    page: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    order: Annotated[Sorted, typer.Option(help="By reception.")] = Sorted.DESC,
    as_json: AsJson = False,
) -> None:
    """Show the events that match, the newest first."""
    wanted = InboxFilter(event_type, performer, _status(status), received_from, received_to)
    found, total = asyncio.run(_found(wanted, page, limit, "asc" if order is Sorted.ASC else "desc"))
    if as_json:
        print_json({"events": [event_document(event) for event in found], "total": total})
    else:
        print_table(event_table(found))
        people.print(f"{len(found)} of {total}")


@app.command()
def show(
    event: EventId,
    with_payload: Annotated[bool, typer.Option("--payload", help="Its body too: it is personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one event and what became of it, for each group that consumes it."""
    document = document_with_payload if with_payload else event_document
    documents = [document(row) for row in asyncio.run(_named(event))]
    if as_json:
        print_json(documents)
    else:
        people.print("\n\n".join(map(facts, documents)))


@app.command()
def retry(event: EventId, group: Group = None, as_json: AsJson = False) -> None:
    """Try a dead event again, or a waiting one at once. Of several groups all that can be, or the one given."""
    rows = asyncio.run(_retry(event, group))
    if as_json:
        print_json([event_document(row) for row in rows])
    else:
        print_table(event_table(rows))


@app.command()
def redrive(
    event_type: Type = None,
    performer: Performer = None,
    status: Annotated[
        Redrivable, typer.Option(help="waiting: what waits for its time is due at once.")
    ] = Redrivable.DEAD,
    reason: Annotated[str | None, typer.Option(help="How the code of the reason begins.")] = None,
    group: Group = None,
    received_from: From = None,
    received_to: To = None,
    every: Annotated[bool, typer.Option("--all", help="Without any filter: all of them.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="The oldest so many.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing: so without --yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try all dead events that match again: first counted, with --yes done. It may be repeated, and cut off."""
    wanted = RedriveFilter(
        Status.DEAD if status is Redrivable.DEAD else Status.WAITING,
        event_type, performer, reason, group, received_from, received_to,
    )  # fmt: skip
    _check_usage(wanted, every=every, dry_run=dry_run, yes=yes)
    report = asyncio.run(_redrive(wanted, limit, aloud=not as_json) if yes else _survey(wanted))
    if as_json:
        print_json(report.document(is_dry=not yes))
    else:
        print_table(report_table(report))
        people.print(_sentence(report, is_dry=not yes))


def _status(shown: Shown | None) -> Status | Literal["duplicate"] | None:
    if shown is None:
        return None
    return "duplicate" if shown is Shown.DUPLICATE else Status(shown)


def _check_usage(wanted: RedriveFilter, *, every: bool, dry_run: bool, yes: bool) -> None:
    if dry_run and yes:
        raise typer.BadParameter("--dry-run and --yes exclude each other")
    if every is (wanted != RedriveFilter(wanted.status)):
        raise typer.BadParameter("say which events by a filter, or --all and no filter")


async def _found(wanted: InboxFilter, page: int, limit: int, order: Order) -> tuple[list[InboxRecord], int]:
    async with opened_database() as database, database.reading() as reading:
        return await inbox_queries.find(reading, wanted, page=page, limit=limit, order=order)


async def _named(event: str) -> list[InboxRecord]:
    async with opened_database() as database, database.reading() as reading:
        if rows := await inbox_queries.find_by_event_id(reading, event):
            return rows
    raise NotFound(f"There is no event {event}; see: safevideo events list")


async def _retry(event: str, group: str | None) -> list[InboxRecord]:
    async with opened_database() as database:
        return await RedriveService(database, utc_now).retry(event, group, caller())


async def _survey(wanted: RedriveFilter) -> RedriveReport:
    async with opened_database() as database:
        return await RedriveService(database, utc_now).survey(wanted, caller())


async def _redrive(wanted: RedriveFilter, limit: int | None, *, aloud: bool) -> RedriveReport:
    """Run by run, each of them bounded, until all is done or `limit` is."""
    async with opened_database() as database:
        redriving, operator = RedriveService(database, utc_now), caller()
        left = sys.maxsize if limit is None else limit
        first = run = await redriving.run(wanted, operator, min(left, MAX_EVENTS))
        redriven = run.redriven
        while run.redriven and not run.is_complete and redriven < left:
            if aloud:
                people.print(f"{redriven} events are taken up; going on …")
            run = await redriving.run(wanted, operator, min(left - redriven, MAX_EVENTS))
            redriven += run.redriven
    return replace(first, redriven=redriven, is_complete=run.is_complete)


def _sentence(report: RedriveReport, *, is_dry: bool) -> str:
    if is_dry:
        return f"{report.redrivable} of {report.events} events can be taken up; nothing was changed. To do it: --yes"
    rest = "" if report.is_complete else " There are more: run it again."
    return f"{report.redriven} events are taken up; the workers try them now.{rest}"
