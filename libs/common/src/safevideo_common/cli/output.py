"""How a command speaks: tables and sentences for people, one JSON document for scripts."""

from datetime import datetime
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for scripts.")]

people: Final = Console(soft_wrap=True, highlight=False, markup=False)
"""For people; a line is never broken, so that what is copied from it is whole."""


def print_json(document: object) -> None:
    """One document on stdout. Times are RFC 3339."""
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())  # noqa: T201 - its output


def minute(moment: datetime | None) -> str:
    """A moment in a table, in UTC."""
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
