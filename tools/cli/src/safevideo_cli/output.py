"""The output of commands: tables and YAML for people, one JSON document for scripts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson

_MAX_WIDTH: Final = 10_000
_SENTENCE_WIDTH: Final = 48


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, sentence: str | None = None) -> None:
    """Print a table; no id is cut, a narrower terminal wraps its lines. The last column, `sentence`, wraps its text."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Column, Table

    table = Table(*columns, *([Column(sentence, max_width=_SENTENCE_WIDTH)] if sentence else []), box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    width = Measurement.get(console, console.options.update(max_width=_MAX_WIDTH), table).maximum
    Console(highlight=False, markup=False, width=width).print(table)


def print_json(document: object) -> None:
    """Print one document on stdout. Times are RFC 3339."""
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def to_yaml(document: Mapping[str, object]) -> str:
    """Return one document for people: one fact a line, without empty ones."""
    import yaml
    from msgspec import to_builtins

    present = {name: value for name, value in document.items() if value not in (None, {}, [])}
    return yaml.safe_dump(to_builtins(present), sort_keys=False, allow_unicode=True, width=float("inf")).rstrip("\n")


def format_minute(timestamp: datetime | None) -> str:
    """Return a time for a table, in UTC."""
    return "never" if timestamp is None else f"{timestamp:%Y-%m-%d %H:%M}"
