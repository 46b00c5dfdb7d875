"""What a failed statement means. Three answers, decided here alone:

- `DatabaseConflict`: another transaction was quicker; the same one succeeds when it is run again at once.
- `DataRejected`: these values will never be taken. Only what is surely the fault of the values counts as such.
- `DatabaseUnavailable`: all the rest, a missing table or privilege included. It passes, or an operator mends it; to
  wait costs time, to blame the event would cost the event.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from safevideo_common.errors import (
    DatabaseConflict,
    DatabaseUnavailable,
    DataRejected,
    SafeVideoError,
)
from safevideo_common.resilience.backoff import Backoff

_MYSQL_CONFLICTS: Final = frozenset({
    1020,  # changed since the snapshot was taken (MariaDB, innodb_snapshot_isolation)
    1062,  # two inserted the same key
    1205,  # waited too long for a row
    1213,  # deadlock
    3572,  # a row is locked, and the statement would not wait (MySQL)
})  # fmt: skip
_MYSQL_REFUSALS: Final = frozenset({
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
_SQLITE_REFUSALS: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})

_CONFLICT: Final = (DatabaseConflict, "another transaction was quicker")
_REFUSED: Final = (DataRejected, "the database refused the values")
_UNAVAILABLE: Final = (DatabaseUnavailable, "the database cannot serve this now")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise what fails inside as one of the three errors. Their messages hold no value of the statement."""
    try:
        yield
    except (TimeoutError, PoolTimeout) as error:
        raise DatabaseUnavailable("the database did not answer in time") from error
    except DBAPIError as error:
        raise _named(error) from error
    except (StatementError, OverflowError, UnicodeError) as error:  # refused before it reached the server
        raise DataRejected("a value does not fit its column") from error


def _named(error: DBAPIError) -> SafeVideoError:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)  # absent where the driver itself objects, and not SQLite
        fault, meaning = _meaning_on_sqlite(code)
    else:
        code = cause.args[0] if cause is not None and cause.args else 0
        fault, meaning = _meaning_on_mysql(code)
    return fault(f"{meaning} ({type(cause).__name__} {code})")


def _meaning_on_mysql(code: object) -> tuple[type[SafeVideoError], str]:
    if code in _MYSQL_CONFLICTS:
        return _CONFLICT
    return _REFUSED if code in _MYSQL_REFUSALS else _UNAVAILABLE


def _meaning_on_sqlite(code: int) -> tuple[type[SafeVideoError], str]:
    family = code & 0xFF  # the rest of an extended code says more than is asked here
    if code in _SQLITE_CONFLICTS or family in _SQLITE_BUSY:
        return _CONFLICT
    return _REFUSED if family in _SQLITE_REFUSALS else _UNAVAILABLE


# Running a transaction again that met another one on the same rows.


MAX_CONFLICT_ATTEMPTS: Final = 5
CONFLICT_BACKOFF: Final = Backoff(initial=0.02, maximum=0.5)
"""Two transactions met on the same rows: the loser runs again at once, a little apart."""

_Result = TypeVar("_Result")


async def retry_on_conflict(step: Callable[[], Awaitable[_Result]]) -> _Result:
    """The result of `step`, run again at once where another transaction was quicker. Raises `DatabaseUnavailable`."""
    for tries in range(1, MAX_CONFLICT_ATTEMPTS + 1):
        try:
            return await step()
        except DatabaseConflict:
            await asyncio.sleep(CONFLICT_BACKOFF.delay(tries))
    raise DatabaseUnavailable("other transactions were quicker each time")
