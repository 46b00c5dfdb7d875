"""What the commands about events take."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from safevideo_common.inbox.store.queries import EVENT_ID


class Shown(StrEnum):
    """What `list` can look for."""

    APPLIED = "applied"
    STALE = "stale"
    WAITING = "waiting"
    DEAD = "dead"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"


class Redrivable(StrEnum):
    """What `redrive` takes up."""

    DEAD = "dead"
    WAITING = "waiting"


class Sorted(StrEnum):
    """The order of `list`, by reception."""

    ASC = "asc"
    DESC = "desc"


def _event_id(given: str) -> str:
    if not EVENT_ID.fullmatch(given):
        raise typer.BadParameter("1 to 128 visible ASCII characters")
    return given


def moment(given: str) -> datetime:
    """What `--from` and `--to` take. Raises `typer.BadParameter`."""
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise typer.BadParameter("a time with its zone, such as 2026-11-24T20:58:25Z")
    return found


EventId = Annotated[str, typer.Argument(metavar="ID", callback=_event_id, help="Row number, or id of the event.")]
Type = Annotated[str | None, typer.Option("--type", help="Such as performer.profile.updated.")]
Performer = Annotated[str | None, typer.Option(help="Sharegram's id of the performer.")]
From = Annotated[datetime | None, typer.Option("--from", parser=moment, metavar="TIME", help="Received then or later.")]
To = Annotated[datetime | None, typer.Option("--to", parser=moment, metavar="TIME", help="Received before.")]
Group = Annotated[str | None, typer.Option(help="Consumer group, such as sync-worker.")]
