"""`safevideo events list|show|retry|close|redrive`."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Literal

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.options import After, AsJson, From, Limit, Page, SortOrder, To, Wide
from safevideo_cli.output import format_second, print_json, print_lines, print_table, print_yaml
from safevideo_common.clock import utc_now
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import NotFound
from safevideo_common.inbox.redrive import MAX_EVENTS, RedriveReport, RedriveService
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store.queries import EVENT_ID, EventDocument, InboxFilter, InboxRecord, event_document
from safevideo_common.inbox.store.redrive import RedriveFilter


class StatusFilter(StrEnum):
    """The statuses that `list` can filter by."""

    APPLIED = "applied"
    STALE = "stale"
    WAITING = "waiting"
    DEAD = "dead"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"


class RedriveStatus(StrEnum):
    """The statuses that can be redriven."""

    DEAD = "dead"
    WAITING = "waiting"


def _event_id(text: str) -> str:
    if not EVENT_ID.fullmatch(text):
        raise typer.BadParameter("1 to 128 visible ASCII characters")
    return text


EventId = Annotated[str, typer.Argument(metavar="ID", callback=_event_id, help="Row number, or id of the event.")]
Type = Annotated[str | None, typer.Option("--type", help="Such as performer.profile.updated.")]
Performer = Annotated[str | None, typer.Option(help="Sharegram's id of the performer.")]
Group = Annotated[str | None, typer.Option(help="Consumer group, such as sync-worker.")]

app = typer.Typer(no_args_is_help=True)


@app.command(name="list")
def list_events(
    event_type: Type = None,
    performer: Performer = None,
    statuses: Annotated[
        list[StatusFilter] | None,
        typer.Option("--status", help="Status; duplicate: came more than once. May be repeated."),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="Id of the request that brought it, as in the log. Add --since: it has no index.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Prefix of the reason code, such as BODY_INVALID.")] = None,
    received_from: From = None,
    received_to: To = None,
    page: Page = 1,
    after: After = None,
    limit: Limit = 20,
    order: Annotated[SortOrder, typer.Option(help="By time of receipt.")] = SortOrder.DESC,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Show the events that match, the newest first."""
    event_filter = InboxFilter(
        event_type, performer, [_status(each) for each in statuses or ()], received_from, received_to, request_id,
        reason,
    )  # fmt: skip
    events, total = asyncio.run(_find(event_filter, page, limit, order, after))
    if as_json:
        print_json({"events": [event_document(event) for event in events], "total": total})
    else:
        print_events(events, hidden=("performer",) if performer else (), wide=wide)
        for advice in sorted({advice for event in events if (advice := event_document(event)["advice"])}):
            print_lines(f"Ignored: {advice}")
        print_lines(f"{len(events)} of {total}")


@app.command()
def show(
    event: EventId,
    with_payload: Annotated[bool, typer.Option("--payload", help="Its body too, which is personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one event and its outcome, for each group that consumes it."""
    documents = asyncio.run(_documents(event))
    rows = [{**document, **(_payload(row) if with_payload else {})} for row, document in documents]
    if as_json:
        print_json(rows)
    else:
        print_yaml(*rows)


@app.command()
def retry(event: EventId, group: Group = None, as_json: AsJson = False) -> None:
    """Give a dead event new attempts, or a waiting one its next attempt now; in all groups that can, or in one."""
    rows = asyncio.run(_retry(event, group))
    if as_json:
        print_json([event_document(row) for row in rows])
    else:
        print_events(rows)


@app.command()
def close(
    event: EventId,
    reason: Annotated[str, typer.Option(help="Such as the id that it was sent again under. No personal data.")],
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Give up a dead event that nothing will apply any more: it is ignored from now on, and its body is dropped."""
    rows = asyncio.run(_close(event, group, reason))
    if as_json:
        print_json([event_document(row) for row in rows])
    else:
        print_events(rows)


@app.command()
def redrive(
    event_type: Type = None,
    performer: Performer = None,
    status: Annotated[
        RedriveStatus, typer.Option(help="waiting: events that wait for their next attempt get it now.")
    ] = RedriveStatus.DEAD,
    reason: Annotated[str | None, typer.Option(help="Prefix of the reason code.")] = None,
    group: Group = None,
    received_from: From = None,
    received_to: To = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, without any filter.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many, oldest first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only; this is the default without --yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Redrive them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Redrive all dead events that match. Without --yes it only counts. It may be interrupted and repeated."""
    event_filter = RedriveFilter(
        Status.DEAD if status is RedriveStatus.DEAD else Status.WAITING,
        event_type, performer, reason, group, received_from, received_to,
    )  # fmt: skip
    if dry_run and yes:
        raise typer.BadParameter("--dry-run and --yes exclude each other")
    if every is (event_filter != RedriveFilter(event_filter.status)):
        raise typer.BadParameter("say which events by a filter, or --all and no filter")
    report = asyncio.run(_redrive(event_filter, limit, quiet=as_json) if yes else _preview(event_filter))
    if as_json:
        print_json(report.document(is_dry=not yes))
    else:
        _print_report(report, is_dry=not yes)


def _status(status: StatusFilter) -> Status | Literal["duplicate"]:
    return "duplicate" if status is StatusFilter.DUPLICATE else Status(status)


def _payload(event: InboxRecord) -> dict[str, object]:
    if event.payload is not None:
        return {"payload": event.payload.decode(errors="replace")}
    position = f"{event.source_topic}, partition {event.source_partition}, offset {event.source_offset}"
    reason = f"BODY_KEPT_ONLY_WHILE_OPEN: the event is {event.status}; the body is in {position}"
    return {"payload": None, "noPayload": reason}


def print_events(events: Sequence[InboxRecord], *, hidden: Sequence[str] = (), wide: bool = False) -> None:
    """Print a table. On a terminal the row number stands for the id of the event, and `hidden` is left out."""
    rows = (
        (
            str(event.row_id), event.event_id, event.event_type, event.performer_id or "", event.status,
            str(event.tries), format_second(event.received_at), event.reason or "",
        )
        for event in events
    )  # fmt: skip
    columns = ("id", "event", "type", "performer", "status", "tries", "received (UTC)")
    print_table(columns, rows, sentence="reason", only_wide=("event", "tries", *hidden), wide=wide)


def _print_report(report: RedriveReport, *, is_dry: bool) -> None:
    rows = ((str(each.events), str(each.redrivable), each.event_type, each.code, each.group) for each in report.counts)
    print_table(("events", "redrivable", "type", "reason", "group"), rows)
    if is_dry:
        print_lines(
            f"{report.redrivable} of {report.events} events can be redriven; nothing was changed. To do it: --yes"
        )
    else:
        rest = "" if report.is_complete else " There are more: run it again."
        print_lines(f"{report.redriven} events are redriven; the workers process them now.{rest}")


async def _find(
    event_filter: InboxFilter, page: int, limit: int, order: SortOrder, after: int | None
) -> tuple[list[InboxRecord], int]:
    async with open_database() as database, database.read_connection() as connection:
        return await inbox_queries.find(
            connection, event_filter, page=page, limit=limit, order=order.value, after=after
        )


async def _documents(event: str) -> list[tuple[InboxRecord, EventDocument]]:
    """Return the rows of an event with their documents, which name the events that own its lost fields."""
    async with open_database() as database, database.read_connection() as connection:
        if not (rows := await inbox_queries.find_by_event_id(connection, event)):
            raise NotFound(f"There is no event {event}; see: safevideo events list")
        writers = [await inbox_queries.writers_of_overtaken_fields(connection, row) for row in rows]
        return [(row, event_document(row, each)) for row, each in zip(rows, writers, strict=True)]


async def _retry(event: str, group: str | None) -> list[InboxRecord]:
    operator = caller()
    async with open_database() as database:
        rows = await RedriveService(database, utc_now).retry(event, group, operator)
    log_action("Event redriven", operator, event_id=rows[0].event_id)
    return rows


async def _close(event: str, group: str | None, reason: str) -> list[InboxRecord]:
    operator = caller()
    async with open_database() as database:
        rows = await RedriveService(database, utc_now).close(event, group, reason, operator)
    log_action("Event closed", operator, event_id=rows[0].event_id)
    return rows


async def _preview(event_filter: RedriveFilter) -> RedriveReport:
    async with open_database() as database:
        return await RedriveService(database, utc_now).preview(event_filter, caller())


async def _redrive(event_filter: RedriveFilter, limit: int | None, *, quiet: bool) -> RedriveReport:
    """Redrive in bounded runs until all are done, or `limit` events are."""
    operator = caller()
    async with open_database() as database:
        service = RedriveService(database, utc_now)
        left = sys.maxsize if limit is None else limit
        first = run = await service.run(event_filter, operator, min(left, MAX_EVENTS))
        redriven = run.redriven
        while run.redriven and not run.is_complete and redriven < left:
            if not quiet:
                print_lines(f"{redriven} events are redriven; continuing …")
            run = await service.run(event_filter, operator, min(left - redriven, MAX_EVENTS))
            redriven += run.redriven
    log_action("Events redriven", operator, events=first.events, redriven=redriven)
    return replace(first, redriven=redriven, is_complete=run.is_complete)
