"""The meaning of a failed statement.

Only this module classifies errors, as one of three:

- `DatabaseConflict`: another transaction won. The same transaction succeeds if it runs again at once. `RowLocked` is
  the conflict in which the other transaction has kept a row for long.
- `DataRejected`: the database never accepts these values. Only errors that the values surely cause count as such.
- `DatabaseUnavailable`: all other errors, also a missing table or privilege. They pass, or an operator fixes them.
  To wait costs time; to blame the values would lose the event.
"""

import asyncio
import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from pymysql.constants import CR
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from safevideo_common.errors import (
    DatabaseConflict,
    DatabaseUnavailable,
    DataRejected,
    RowLocked,
    SafeVideoError,
)
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import reset_as_os_error

_MYSQL_CONFLICTS: Final = frozenset({
    1020,  # changed since the snapshot was taken (MariaDB, innodb_snapshot_isolation)
    1062,  # two inserted the same key
    1213,  # deadlock
})  # fmt: skip
_MYSQL_LOCKED_ROWS: Final = frozenset({
    1205,  # waited too long for a row
    3572,  # a row is locked, and the statement would not wait (MySQL)
})  # fmt: skip
_MYSQL_REJECTIONS: Final = frozenset({
    1048, 1364,  # NULL or nothing in a column that must have a value
    1153,  # larger than the server takes
    1264, 1690,  # out of range
    1265, 1292, 1366, 1411,  # not of the column's type, or not UTF-8
    1406,  # too long
    1451, 1452,  # foreign key
    3140, 3150, 3151, 3157,  # not JSON, or too large, with too long a name, too deep for MySQL's
    3819, 4025,  # a CHECK constraint of MySQL; one of MariaDB: its JSON has one
})  # fmt: skip
_SQLITE_CONFLICTS: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE})
_SQLITE_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_REJECTIONS: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})

_CONFLICT: Final = (DatabaseConflict, "another transaction was quicker")
_LOCKED: Final = (RowLocked, "another transaction keeps a row locked")
_REJECTED: Final = (DataRejected, "the database refused the values")
_UNAVAILABLE: Final = (DatabaseUnavailable, "the database cannot serve this now")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise each error inside as one of the three. Their messages have no value of the statement."""
    try:
        with reset_as_os_error():
            yield
    except (TimeoutError, PoolTimeout) as error:
        raise DatabaseUnavailable("the database did not answer in time") from error
    except DBAPIError as error:
        raise _translated(error) from error
    except (StatementError, OverflowError, UnicodeError) as error:  # raised before the statement reached the server
        raise DataRejected("a value does not fit its column") from error
    except ConnectionResetError as error:
        raise DatabaseUnavailable("the connection to the database was reset") from error


def _translated(error: DBAPIError) -> SafeVideoError:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)  # absent if the driver raised it, and not SQLite
        kind, meaning = _meaning_on_sqlite(code)
    else:
        code = cause.args[0] if cause is not None and cause.args else 0
        kind, meaning = _meaning_on_mysql(code)
    reason = _tls_reason(cause)
    return kind(f"{meaning} ({type(cause).__name__} {code}{reason})")


def _tls_reason(cause: BaseException | None) -> str:
    """Return why there is no encrypted connection, in OpenSSL's words; empty for any other failure."""
    below = cause.__cause__ if cause is not None else None
    if isinstance(below, ssl.SSLCertVerificationError):
        return f": certificate verify failed: {below.verify_message}"
    if isinstance(below, ssl.SSLError):
        return f": {below.reason}"
    has_no_tls = cause is not None and cause.args[:1] == (CR.CR_SSL_CONNECTION_ERROR,)
    return f": {cause.args[1]}" if cause is not None and has_no_tls else ""


def _meaning_on_mysql(code: object) -> tuple[type[SafeVideoError], str]:
    if code in _MYSQL_LOCKED_ROWS:
        return _LOCKED
    if code in _MYSQL_CONFLICTS:
        return _CONFLICT
    return _REJECTED if code in _MYSQL_REJECTIONS else _UNAVAILABLE


def _meaning_on_sqlite(code: int) -> tuple[type[SafeVideoError], str]:
    family = code & 0xFF  # the other bits of an extended code are details
    if code in _SQLITE_CONFLICTS or family in _SQLITE_BUSY:
        return _CONFLICT
    return _REJECTED if family in _SQLITE_REJECTIONS else _UNAVAILABLE


MAX_CONFLICT_ATTEMPTS: Final = 5
CONFLICT_BACKOFF: Final = Backoff(initial=0.02, maximum=0.5)
"""Short: the transaction that won the rows is already finished."""

_Result = TypeVar("_Result")


async def retry_on_conflict(step: Callable[[], Awaitable[_Result]]) -> _Result:
    """Return the result of `step`, repeated after each conflict. Raises `DatabaseUnavailable` at the end."""
    for attempt in range(1, MAX_CONFLICT_ATTEMPTS + 1):
        try:
            return await step()
        except DatabaseConflict:
            await asyncio.sleep(CONFLICT_BACKOFF.delay(attempt))
    raise DatabaseUnavailable("other transactions were quicker each time")
