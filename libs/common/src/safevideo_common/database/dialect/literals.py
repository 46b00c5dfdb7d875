"""Values as literals of MySQL and MariaDB: for rows that go into a statement's text.

A literal is made for its column, whose type is known, and costs a fraction of what the driver takes to find out what
it was given. It is safe on the connections that `connections.py` makes: in their character set, utf8mb4, no character
holds the byte of a quote, and their SQL mode, in which a backslash escapes, is not the server's but their own.
"""

from collections.abc import Callable
from math import isfinite
from typing import Final

from sqlalchemy import Boolean, Dialect, Float, Integer, LargeBinary
from sqlalchemy.types import TypeEngine

Literal = Callable[[object], str]
"""From a value to its literal. Raises `TypeError` or `ValueError` for one that is not of the column's type."""

NULL: Final = "NULL"


def literal_of(column_type: TypeEngine[object], dialect: Dialect) -> Literal:
    """How values of this type are written. What SQLAlchemy would do to them for the driver is done first."""
    kind = column_type.dialect_impl(dialect)
    write = next((write for of, write in _LITERALS if isinstance(kind, of)), _text)
    process = kind.bind_processor(dialect)
    if process is None or isinstance(kind, Boolean):
        return write
    return lambda value: write(process(value))


def _text(value: object) -> str:
    if value is None:
        return NULL
    text = str.__str__(value)  # refuses whatever is no str
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "'" in text:
        text = text.replace("'", "''")
    return f"'{text}'"


def _integer(value: object) -> str:
    return NULL if value is None else int.__repr__(value)  # refuses whatever is no int


def _boolean(value: object) -> str:
    if value is None:
        return NULL
    if not isinstance(value, bool):
        raise TypeError("not a bool")
    return "1" if value else "0"


def _number(value: object) -> str:
    if value is None:
        return NULL
    number = float(value)  # type: ignore[arg-type]  # refuses whatever is no number
    if not isfinite(number):
        raise ValueError("not a finite number")
    return f"{number!r}e0" if "e" not in repr(number) else repr(number)


def _bytes(value: object) -> str:
    if value is None:
        return NULL
    data = bytes.__bytes__(value)  # type: ignore[arg-type]  # refuses whatever is no bytes
    # The text is sent in UTF-8, in which ASCII is itself: half as long as in hexadecimal digits.
    return f"_binary{_text(data.decode('ascii'))}" if data.isascii() else f"x'{data.hex()}'"


_LITERALS: Final = ((Boolean, _boolean), (Integer, _integer), (Float, _number), (LargeBinary, _bytes))
