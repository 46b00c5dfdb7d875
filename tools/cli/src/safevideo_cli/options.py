"""Options that several commands take."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer


class SortOrder(StrEnum):
    """The order of a list."""

    ASC = "asc"
    DESC = "desc"


def parse_timestamp(text: str) -> datetime:
    """Return the time of `--from` or `--to`. Raise `typer.BadParameter`."""
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        timestamp = None
    if timestamp is None or timestamp.tzinfo is None:
        raise typer.BadParameter("a time with its zone, such as 2026-11-24T20:58:25Z")
    return timestamp


AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for scripts.")]
Page = Annotated[int, typer.Option(min=1, max=1_000_000, help="Page number, from 1.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Rows a page.")]
From = Annotated[
    datetime | None, typer.Option("--from", parser=parse_timestamp, metavar="TIME", help="At this time or later.")
]
To = Annotated[datetime | None, typer.Option("--to", parser=parse_timestamp, metavar="TIME", help="Before this time.")]
