"""How a command speaks: tables and sentences for people, one JSON document for scripts."""

from collections.abc import Mapping
from datetime import datetime
from math import inf
from typing import Annotated, Final

import orjson
import typer
import yaml
from msgspec import to_builtins
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

_WIDEST: Final = 10_000
_SENTENCE_WIDTH: Final = 48

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for scripts.")]

people: Final = Console(soft_wrap=True, highlight=False, markup=False)
"""For people; a line is never broken, so that what is copied from it is whole."""


def print_table(table: Table) -> None:
    """As wide as it is, so that no id is cut: where the terminal is narrower, it breaks the lines."""
    width = Measurement.get(people, people.options.update(max_width=_WIDEST), table).maximum
    Console(highlight=False, markup=False, width=width).print(table)


def sentence(name: str) -> Column:
    """A column of sentences: broken where a table would get too wide for its ids to be found."""
    return Column(name, max_width=_SENTENCE_WIDTH)


def print_json(document: object) -> None:
    """One document on stdout. Times are RFC 3339."""
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def facts(document: Mapping[str, object]) -> str:
    """One document for people, as YAML: a fact a line, without those that are empty."""
    there = {name: value for name, value in document.items() if value not in (None, {}, [])}
    return yaml.safe_dump(to_builtins(there), sort_keys=False, allow_unicode=True, width=inf).rstrip("\n")


def minute(moment: datetime | None) -> str:
    """A moment in a table, in UTC."""
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
