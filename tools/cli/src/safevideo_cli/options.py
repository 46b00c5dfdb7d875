"""Options that several commands take."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import typer

from safevideo_common.domain.sentences import MAX_SENTENCE, is_sentence
from safevideo_common.domain.times import EVENT_YEARS


class SortOrder(StrEnum):
    """The order of a list."""

    ASC = "asc"
    DESC = "desc"


_AGE: Final = re.compile(r"-?(?P<number>[0-9]{1,5})(?P<unit>[smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_timestamp(text: str) -> datetime:
    """Return the time of `--from` or `--to`: with its zone, or as an age such as `10m`. Raise `typer.BadParameter`."""
    if age := _AGE.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[age["unit"]]: int(age["number"])})
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        timestamp = None
    if timestamp is None or timestamp.tzinfo is None or timestamp.year not in EVENT_YEARS:
        raise typer.BadParameter("a time with its zone, such as 2026-11-24T20:58:25Z, or an age such as 10m, 2h, 3d")
    return timestamp


def check_sentence(text: str) -> str:
    """Return a reason as it was typed. Raise `typer.BadParameter` unless it is one line that can be shown."""
    if not is_sentence(text):
        raise typer.BadParameter(f"a reason is one line of 1 to {MAX_SENTENCE} printable characters")
    return text


AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for scripts.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show every column in full, however wide the table is.")]
Page = Annotated[int, typer.Option(min=1, max=1_000_000, help="Page number, from 1.")]
After = Annotated[
    int | None, typer.Option(min=1, help="The page behind the row with this id, whatever came meanwhile.")
]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Rows a page.")]
From = Annotated[
    datetime | None,
    typer.Option(
        "--from",
        "--since",
        parser=parse_timestamp,
        metavar="TIME",
        help="At this time or later; or an age, such as 10m, 2h.",
    ),
]
To = Annotated[datetime | None, typer.Option("--to", parser=parse_timestamp, metavar="TIME", help="Before this time.")]
