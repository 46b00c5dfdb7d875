"""`safevideo trace`: one request, from its first log line to the rows that it has written."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from safevideo_cli.environment import LogSettings, open_database
from safevideo_cli.events import print_events
from safevideo_cli.jobs import print_jobs
from safevideo_cli.options import AsJson, From, Wide
from safevideo_cli.output import format_second, print_json, print_lines, print_table
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, AuditRecord, audit_document
from safevideo_common.clock import utc_now
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store.queries import EVENT_ID, InboxFilter, InboxRecord, event_document
from safevideo_common.jobs.model import Job
from safevideo_common.jobs.serializers import job_document
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import JobFilter
from safevideo_common.observability.log_sink import log_folder
from safevideo_common.settings import load_settings

DEFAULT_AGE: Final = timedelta(days=1)
MAX_ROWS: Final = 100
"""Of each kind."""

app = typer.Typer()


class Trace(NamedTuple):
    """The lines and rows of one request."""

    lines: Sequence[str]
    events: Sequence[InboxRecord]
    jobs: Sequence[Job]
    actions: Sequence[AuditRecord]


def _request_id(text: str) -> str:
    if not EVENT_ID.fullmatch(text):
        raise typer.BadParameter("1 to 128 visible ASCII characters, as X-Request-Id has it")
    return text


@app.callback(invoke_without_command=True)
def trace(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", callback=_request_id, help="Its X-Request-Id.")],
    received_from: From = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Follow one request of the last day: its log lines on this machine, its events, jobs and audit entries.

    `--since` looks further back. Exit code 1: nothing was found.
    """
    folder = log_folder(load_settings(LogSettings).log_dir)
    lines = _lines(folder / "app.log", request_id) if folder else []
    found = asyncio.run(_trace(lines, request_id, received_from or utc_now() - DEFAULT_AGE))
    if as_json:
        print_json(
            {
                "lines": found.lines,
                "events": [event_document(each) for each in found.events],
                "jobs": [job_document(each) for each in found.jobs],
                "actions": [audit_document(each) for each in found.actions],
            }
        )
    else:
        _print(found, folder, wide=wide)
    if not any(found):
        raise typer.Exit(1)


def _lines(path: Path, request_id: str) -> list[str]:
    """Return the lines of the log file that have the id, at most `MAX_ROWS`."""
    if not path.exists():
        return []
    text = f"request_id={request_id}"
    with path.open(errors="replace") as file:
        found = (line.rstrip("\n") for line in file if text in line and text in line.split())
        return [line for line, _ in zip(found, range(MAX_ROWS), strict=False)]


def _print(found: Trace, folder: Path | None, *, wide: bool) -> None:
    print_lines(*(found.lines or [f"No log line in {folder or 'LOG_DIR, which is not set'}."]))
    if found.events:
        print_events(found.events, wide=wide)
    else:
        print_lines("No event.")
    if found.jobs:
        print_jobs(found.jobs, wide=wide)
    if found.actions:
        rows = (
            (format_second(each.entry.at), each.entry.actor, each.entry.action, each.entry.target or "")
            for each in found.actions
        )
        print_table(("at (UTC)", "actor", "action", "target"), rows)


async def _trace(lines: Sequence[str], request_id: str, since: datetime) -> Trace:
    async with open_database() as database, database.read_connection() as reading:
        events, _ = await inbox_queries.find(
            reading, InboxFilter(received_from=since, request_id=request_id), page=1, limit=MAX_ROWS, order="asc"
        )
        jobs, _ = await job_admin.find(
            reading, JobFilter(created_from=since, request_id=request_id), page=1, limit=MAX_ROWS, order="asc"
        )
        actions, _ = await audit_store.find(
            reading, AuditFilter(request_id=request_id, at_from=since), page=1, limit=MAX_ROWS, order="asc"
        )
    return Trace(lines, events, jobs, actions)
