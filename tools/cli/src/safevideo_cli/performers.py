"""`safevideo performers show`: each field with its last writer, and the events that lost."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from safevideo_cli.environment import open_database
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_table
from safevideo_common.inbox.performer_history import FieldDocument, PerformerHistoryDocument, performer_history
from safevideo_common.inbox.store.queries import EVENT_ID, EventDocument, OvertakenFieldDocument

app = typer.Typer(no_args_is_help=True)


def _performer_id(text: str) -> str:
    if not EVENT_ID.fullmatch(text) or (text.isdigit() and len(text) > 18):
        raise typer.BadParameter("our id, or 1 to 128 visible ASCII characters")
    return text


@app.callback()
def performers() -> None:
    """Show why a performer has its values."""


@app.command()
def show(
    performer: Annotated[
        str, typer.Argument(metavar="ID", callback=_performer_id, help="Sharegram's id of the performer, or ours.")
    ],
    email: Annotated[bool, typer.Option("--email", help="Its e-mail address too, which is personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show each field with its last writer, and the newest events that did not change what they say, and why."""
    history = asyncio.run(_history(performer, with_email=email))
    if as_json:
        print_json(history)
        return
    print(f"{history['performerId']}, our id {history['id']}, updated at {history['updatedAt']}")
    _print_fields(history["fields"])
    _print_unapplied(history["unapplied"])


def _print_fields(fields: Sequence[FieldDocument]) -> None:
    rows = (
        (
            each["field"],
            "" if each["value"] is None else str(each["value"]),
            "" if each["version"] is None else str(each["version"]),
            each["occurredAt"] or "never set",
            each["eventId"] or "",
        )
        for each in fields
    )
    print_table(("field", "value", "version", "at (UTC)", "last writer"), rows)


def _print_unapplied(events: Sequence[EventDocument]) -> None:
    if not events:
        print("Every event of this performer that the inbox has is applied in full.")
        return
    print("Events that are not applied, or only in part, the newest first:")
    rows = (
        (
            each["eventId"],
            "" if each["version"] is None else str(each["version"]),
            each["receivedAt"],
            each["status"],
            _losses(each) if each["overtaken"] else each["reason"] or "",
        )
        for each in events
    )
    print_table(("event", "version", "received (UTC)", "status"), rows, sentence="reason")


def _losses(event: EventDocument) -> str:
    code = (event["reason"] or "OVERTAKEN").partition(":")[0]
    losses = (f"{each['field']} by {_write(each)}" for each in event["overtaken"])
    return f"{code}: {', '.join(losses)}"


def _write(overtaken: OvertakenFieldDocument) -> str:
    write = (
        f"an event of {overtaken['occurredAt']}" if overtaken["version"] is None else f"version {overtaken['version']}"
    )
    return f"{write} ({overtaken.get('eventId') or 'its event is not in the inbox any more'})"


async def _history(performer: str, *, with_email: bool) -> PerformerHistoryDocument:
    async with open_database() as database:
        return await performer_history(database, performer, with_email=with_email)
