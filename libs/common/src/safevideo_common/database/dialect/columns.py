"""Column types that mean the same on every database."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Dialect, Integer, String, TypeDecorator
from sqlalchemy.dialects import mysql

from safevideo_common.clock import utc_text

__all__ = ["BigId", "Boolean", "ExternalIdText", "JsonDocument", "UtcDateTime"]

# SQLite numbers rows by itself only under an INTEGER key; its INTEGER has 64 bits too.
BigId: Final = BigInteger().with_variant(Integer(), "sqlite")

# Ids of another party may differ in case alone, so they are compared byte by byte.
ExternalIdText: Final = String(128).with_variant(String(128, collation="utf8mb4_bin"), "mysql", "mariadb")

# A missing document is NULL, not the JSON text `null`.
JsonDocument: Final = JSON(none_as_null=True)

_ToDriver = Callable[[datetime | None], str | None]
_FromDriver = Callable[[datetime | str | None], datetime | None]


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: timezone-aware in UTC in Python, without a zone and to the microsecond in the column.

    Raises `ValueError` for a value without a timezone: nobody could say what it means. The drivers get it as text: they
    would make the same of it, and take several times as long.
    """

    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> _ToDriver:
        """From what the code works with to what the driver takes."""
        return _comparable_text if dialect.name == "sqlite" else _text

    def result_processor(self, dialect: Dialect, coltype: object) -> _FromDriver:  # noqa: ARG002
        """From what the driver gives to what the code works with."""
        return _moment


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


def _comparable_text(moment: datetime | None) -> str | None:
    # SQLite has no type for it and compares the texts: each has all its digits.
    if moment is None:
        return None
    text = utc_text(moment).replace("T", " ")
    return text if moment.microsecond else f"{text}.000000"


def _moment(held: datetime | str | None) -> datetime | None:
    if held is None:
        return None
    if isinstance(held, str):  # SQLite has no type for it
        held = utc_datetime(held)
    return held if held.tzinfo is UTC else held.replace(tzinfo=UTC)


def utc_datetime(text: str) -> datetime:
    """The moment that a column holds as text."""
    return datetime.fromisoformat(f"{text}+00:00")  # to say it in the text is far quicker than `replace`
