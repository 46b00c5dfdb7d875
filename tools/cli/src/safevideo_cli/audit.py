"""`safevideo audit`: who did what, when, from where."""

import asyncio
from typing import Annotated

import orjson
import typer

from safevideo_cli.environment import open_database
from safevideo_cli.options import After, AsJson, From, Limit, Page, SortOrder, To, Wide
from safevideo_cli.output import format_second, print_json, print_lines, print_table
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, AuditRecord, audit_document

app = typer.Typer()


@app.callback(invoke_without_command=True)
def audit(
    actor: Annotated[str | None, typer.Option(help="API client, user, or operator at a terminal.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as jobs.cancelled or keys.revoked.")] = None,
    target: Annotated[str | None, typer.Option(help="What was acted on, such as job:41 or key:3.")] = None,
    request_id: Annotated[str | None, typer.Option("--request-id", help="The request or command.")] = None,
    at_from: From = None,
    at_to: To = None,
    page: Page = 1,
    after: After = None,
    limit: Limit = 20,
    order: Annotated[SortOrder, typer.Option(help="By time.")] = SortOrder.DESC,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Show the entries that match, the newest first."""
    matching = AuditFilter(actor, action, target, request_id, at_from, at_to)
    records, total = asyncio.run(_find(matching, page, limit, order, after))
    if as_json:
        print_json({"entries": [audit_document(each) for each in records], "total": total})
        return
    rows = (
        (
            format_second(each.entry.at), each.entry.actor, each.entry.role, each.entry.action,
            each.entry.target or "", each.entry.remote or "", orjson.dumps(dict(each.entry.details)).decode(),
        )
        for each in records
    )  # fmt: skip
    columns = ("at (UTC)", "actor", "role", "action", "target", "from")
    print_table(columns, rows, sentence="details", only_wide=("role", "from"), wide=wide)
    print_lines(f"{len(records)} of {total}")


async def _find(
    matching: AuditFilter, page: int, limit: int, order: SortOrder, after: int | None
) -> tuple[list[AuditRecord], int]:
    async with open_database() as database, database.read_connection() as connection:
        return await audit_store.find(connection, matching, page=page, limit=limit, order=order.value, after=after)
