"""Column types that behave the same on every server."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Dialect, Integer, String, TypeDecorator
from sqlalchemy.dialects import mysql

from safevideo_common.clock import utc_text

__all__ = [
    "BigId",
    "Boolean",
    "EmailText",
    "ExternalIdText",
    "JsonDocument",
    "SubjectText",
    "UtcDateTime",
    "is_mariadb",
    "utc_datetime",
]

# SQLite assigns row ids only to an INTEGER key; its INTEGER has 64 bits too.
BigId: Final = BigInteger().with_variant(Integer(), "sqlite")

# Ids of another party may differ only in case, so they are compared byte by byte.
ExternalIdText: Final = String(128).with_variant(String(128, collation="utf8mb4_bin"), "mysql", "mariadb")

# A subject of OpenID Connect has up to 255 characters.
SubjectText: Final = String(255).with_variant(String(255, collation="utf8mb4_bin"), "mysql", "mariadb")

# Compared without upper and lower case, on every server; the code compares again, by ASCII letters only.
EmailText: Final = (
    String(255)
    .with_variant(String(255, collation="utf8mb4_general_ci"), "mysql", "mariadb")
    .with_variant(String(255, collation="NOCASE"), "sqlite")
)

# A missing document is NULL, not the JSON text `null`.
JsonDocument: Final = JSON(none_as_null=True)

_ToDriver = Callable[[datetime | None], str | None]
_FromDriver = Callable[[datetime | str | None], datetime | None]


class UtcDateTime(TypeDecorator[datetime]):
    """A time: timezone-aware in UTC in Python, without a zone and with microseconds in the column.

    Raises `ValueError` for a value without a timezone. The drivers get text: they would make the same text, and take
    several times as long.
    """

    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> _ToDriver:
        """Return the function from a datetime to what the driver takes."""
        return _comparable_text if dialect.name == "sqlite" else _text

    def result_processor(self, dialect: Dialect, coltype: object) -> _FromDriver:  # noqa: ARG002
        """Return the function from what the driver returns to a datetime."""
        return _datetime


def _text(value: datetime | None) -> str | None:
    return None if value is None else utc_text(value)


def _comparable_text(value: datetime | None) -> str | None:
    # SQLite has no type for it and compares texts, so each has all its digits.
    if value is None:
        return None
    text = utc_text(value).replace("T", " ")
    return text if value.microsecond else f"{text}.000000"


def _datetime(value: datetime | str | None) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):  # SQLite has no type for it
        value = utc_datetime(value)
    return value if value.tzinfo is UTC else value.replace(tzinfo=UTC)


def utc_datetime(text: str) -> datetime:
    """Return the time that a column has as text."""
    return datetime.fromisoformat(f"{text}+00:00")  # a zone in the text is far quicker than `replace`


def is_mariadb(dialect: Dialect) -> bool:
    """Return whether the server is MariaDB, once a connection was made: the URL is the same as for MySQL."""
    return bool(getattr(dialect, "is_mariadb", False))
