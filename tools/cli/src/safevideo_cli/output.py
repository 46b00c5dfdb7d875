"""The output of commands: tables and YAML for people, one JSON document for scripts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson

_MAX_WIDTH: Final = 10_000


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    sentence: str | None = None,
    only_wide: Collection[str] = (),
    wide: bool = False,
) -> None:
    """Print a table. Its last column is `sentence`.

    On a terminal it has the terminal's width: the columns in `only_wide` are left out, and long cells are folded, never
    cut. With `wide`, and in a pipe, each column is there in full.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Column, Table

    console = Console(highlight=False, markup=False)
    is_narrow = console.is_terminal and not wide
    visible = [number for number, name in enumerate(columns) if not (is_narrow and name in only_wide)]
    table = Table(*(Column(columns[number], overflow="fold") for number in visible), box=SIMPLE_HEAD)
    if sentence:
        table.add_column(sentence, overflow="fold")
    for row in rows:
        table.add_row(*(row[number] for number in visible), *row[len(columns) :])
    if is_narrow:
        console.print(table)
    else:
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


def format_second(timestamp: datetime | None) -> str:
    """Return a time for a table, in UTC."""
    return "never" if timestamp is None else f"{timestamp:%Y-%m-%d %H:%M:%S}"
