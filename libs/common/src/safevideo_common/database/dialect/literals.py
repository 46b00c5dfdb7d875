"""Values as literals of MySQL and MariaDB, for rows that are part of a statement's text.

No value can leave its literal (SQL injection), because:
- Each literal is made for the type of its column and raises for a value of another Python type.
- Text is enclosed in single quotes; each quote and each backslash inside is doubled.
- `connections.py` sets the character set utf8mb4, in which no character contains the byte of a quote or a backslash.
- `connections.py` sets the SQL mode of each connection, in which a backslash escapes. The server's mode has no effect.
- `bulk.py` sends the statement without parameters, so a percent sign has no meaning.

`test_literals.py` and `test_bulk.py` check this with generated values, on real servers too. A literal costs a fraction
of what the driver takes, which examines the type of each value.
"""

from collections.abc import Callable
from math import isfinite
from typing import Final

from sqlalchemy import Boolean, Dialect, Float, Integer, LargeBinary
from sqlalchemy.types import TypeEngine

Literal = Callable[[object], str]
"""Makes the literal of a value. Raises `TypeError` or `ValueError` for a value of another type."""

NULL: Final = "NULL"


def literal_of(column_type: TypeEngine[object], dialect: Dialect) -> Literal:
    """Return the literals of a column type. Values first get SQLAlchemy's conversion for the driver."""
    server_type = column_type.dialect_impl(dialect)
    write = next((write for kind, write in _LITERALS if isinstance(server_type, kind)), _text)
    process = server_type.bind_processor(dialect)
    if process is None or isinstance(server_type, Boolean):
        return write
    return lambda value: write(process(value))


def _text(value: object) -> str:
    if value is None:
        return NULL
    text = str.__str__(value)  # raises for anything but a str
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "'" in text:
        text = text.replace("'", "''")
    return f"'{text}'"


def _integer(value: object) -> str:
    return NULL if value is None else int.__repr__(value)  # raises for anything but an int


def _boolean(value: object) -> str:
    if value is None:
        return NULL
    if not isinstance(value, bool):
        raise TypeError("not a bool")
    return "1" if value else "0"


def _number(value: object) -> str:
    if value is None:
        return NULL
    number = float(value)  # type: ignore[arg-type]  # raises for anything but a number
    if not isfinite(number):
        raise ValueError("not a finite number")
    return f"{number!r}e0" if "e" not in repr(number) else repr(number)


def _bytes(value: object) -> str:
    if value is None:
        return NULL
    data = bytes.__bytes__(value)  # type: ignore[arg-type]  # raises for anything but bytes
    # The text is sent in UTF-8, in which ASCII is itself: half as long as in hexadecimal digits.
    return f"_binary{_text(data.decode('ascii'))}" if data.isascii() else f"x'{data.hex()}'"


_LITERALS: Final = ((Boolean, _boolean), (Integer, _integer), (Float, _number), (LargeBinary, _bytes))
