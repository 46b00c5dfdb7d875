"""The output of commands: tables and YAML for people, one JSON document for scripts. Nothing else prints.

What others have chosen is among it: names of performers, reasons, bodies. A terminal obeys some characters and hides or
reverses others. So each one that is not printable is shown as an escape. In JSON it is JSON's own.
"""

import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TextIO

import orjson

from safevideo_common.domain.sentences import is_printable

if TYPE_CHECKING:
    from rich.console import Console

_MAX_WIDTH: Final = 10_000
_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_NOT_ASCII: Final = re.compile(r"[^\x20-\x7e]")


def visible(text: str) -> str:
    """Return `text` on one line, with an escape for each character that is not printable."""
    return _NOT_ASCII.sub(lambda found: found[0] if is_printable(found[0]) else _escape(found[0]), text)


def _escape(character: str) -> str:
    number = ord(character)
    return _SHORT.get(character) or (f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}")


def print_lines(*lines: str) -> None:
    """Print each text as one line on stdout."""
    _write("".join(f"{visible(each)}\n" for each in lines), sys.stdout)


def print_error(*lines: str) -> None:
    """Print each text as one line on stderr."""
    _write("".join(f"{visible(each)}\n" for each in lines), sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    print(text, end="", file=stream, flush=True)


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

    console = Console(highlight=False, markup=False, emoji=False)
    is_narrow = console.is_terminal and not wide
    visible_columns = [number for number, name in enumerate(columns) if not (is_narrow and name in only_wide)]
    table = Table(*(Column(columns[number], overflow="fold") for number in visible_columns), box=SIMPLE_HEAD)
    if sentence:
        table.add_column(sentence, overflow="fold")
    for row in rows:
        cells = [visible(cell) for cell in row]
        table.add_row(*(cells[number] for number in visible_columns), *cells[len(columns) :])
    if is_narrow:
        console.print(table)
    else:
        width = Measurement.get(console, console.options.update(max_width=_MAX_WIDTH), table).maximum
        Console(highlight=False, markup=False, emoji=False, width=width).print(table)


def print_json(document: object) -> None:
    """Print one document on stdout. Times are RFC 3339."""
    print_json_text(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def print_json_line(document: object) -> None:
    """Print one document on one line of stdout."""
    print_json_text(orjson.dumps(document, option=orjson.OPT_UTC_Z).decode())


def print_json_text(text: str) -> None:
    """Print JSON that is encoded already. A parser reads the same from it."""
    _write(f"{_NOT_ASCII.sub(lambda found: _json_escape(found[0]), text)}\n", sys.stdout)


def _json_escape(character: str) -> str:
    """Return a character of JSON's text. Only line feeds are between its values, and its strings have none."""
    if character == "\n" or is_printable(character):
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[position : position + 2].hex()}" for position in range(0, len(units), 2))


def print_yaml(*documents: Mapping[str, object]) -> None:
    """Print documents for people: one fact a line, without empty ones, and an empty line between two."""
    _write("\n".join(map(_yaml, documents)), sys.stdout)


def _yaml(document: Mapping[str, object]) -> str:
    import yaml
    from msgspec import to_builtins

    present = {name: value for name, value in document.items() if value not in (None, {}, [])}
    printable = _with_visible_texts(to_builtins(present))
    return yaml.safe_dump(printable, sort_keys=False, allow_unicode=True, width=float("inf"))


def _with_visible_texts(value: object) -> object:
    match value:
        case str():
            return visible(value)
        case dict():
            return {_with_visible_texts(name): _with_visible_texts(each) for name, each in value.items()}
        case list() | tuple():
            return [_with_visible_texts(each) for each in value]
        case _:
            return value


def format_second(timestamp: datetime | None) -> str:
    """Return a time for a table, in UTC."""
    return "never" if timestamp is None else f"{timestamp:%Y-%m-%d %H:%M:%S}"


def stderr_console() -> "Console":
    """Return rich's console on stderr, for what is only shown while a command runs. Show `visible` texts there."""
    from rich.console import Console

    return Console(stderr=True)
