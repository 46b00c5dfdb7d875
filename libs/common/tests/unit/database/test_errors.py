"""Which of the three answers an error of a driver gets."""

import sqlite3

import pymysql
import pytest
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from safevideo_common.database.errors import translate_errors
from safevideo_common.errors import (
    DatabaseConflict,
    DatabaseUnavailable,
    DataRejected,
    SafeVideoError,
    ServiceUnavailable,
)

VALUE = "zoe@example.com"


def named(error: Exception) -> SafeVideoError:
    """What is raised in place of `error`."""
    with pytest.raises(SafeVideoError) as raised, translate_errors():
        raise error
    return raised.value


def of_mysql(code: int) -> DBAPIError:
    cause = pymysql.err.OperationalError(code, f"something about '{VALUE}'")
    return DBAPIError("UPDATE performers", None, cause, hide_parameters=True)


def of_sqlite(code: int) -> DBAPIError:
    cause = sqlite3.OperationalError(f"something about '{VALUE}'")
    cause.sqlite_errorcode = code
    return DBAPIError("UPDATE performers", None, cause, hide_parameters=True)


@pytest.mark.parametrize("code", [1020, 1062, 1205, 1213, 3572])
def test_mysql_conflict_codes_are_database_conflicts(code: int) -> None:
    error = named(of_mysql(code))
    assert isinstance(error, DatabaseConflict)
    assert isinstance(error, ServiceUnavailable)


@pytest.mark.parametrize("code", [1048, 1153, 1264, 1292, 1366, 1406, 1452, 3140, 3151, 3157, 3819, 4025])
def test_mysql_value_codes_are_data_rejected(code: int) -> None:
    error = named(of_mysql(code))
    assert isinstance(error, DataRejected)
    assert not isinstance(error, ServiceUnavailable)


@pytest.mark.parametrize(
    "code",
    [
        0,  # the driver's own: the connection is closed
        1040,  # too many connections
        1045,  # access denied
        1053,  # shutdown in progress
        1142,  # no privilege
        1146,  # no such table
        1114,  # disk full
        1290,  # read-only
        1317,  # query interrupted
        1836,  # read-only mode
        1927,  # connection was killed
        2003,  # cannot connect
        2006,  # gone away
        2013,  # lost in a query
    ],
)
def test_other_mysql_codes_are_database_unavailable(code: int) -> None:
    error = named(of_mysql(code))
    assert type(error) is DatabaseUnavailable
    assert isinstance(error, ServiceUnavailable)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, DatabaseConflict),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DatabaseConflict),
        (sqlite3.SQLITE_LOCKED, DatabaseConflict),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, DatabaseConflict),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, DatabaseConflict),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, DataRejected),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, DataRejected),
        (sqlite3.SQLITE_TOOBIG, DataRejected),
        (sqlite3.SQLITE_FULL, DatabaseUnavailable),
        (sqlite3.SQLITE_READONLY, DatabaseUnavailable),
        (sqlite3.SQLITE_IOERR, DatabaseUnavailable),
        (sqlite3.SQLITE_CANTOPEN, DatabaseUnavailable),
        (sqlite3.SQLITE_CORRUPT, DatabaseUnavailable),
    ],
)
def test_sqlite_codes_are_classified_like_those_of_mysql(code: int, kind: type[SafeVideoError]) -> None:
    assert type(named(of_sqlite(code))) is kind


def test_timeout_and_exhausted_pool_are_database_unavailable() -> None:
    assert isinstance(named(TimeoutError()), DatabaseUnavailable)
    assert isinstance(named(PoolTimeout()), DatabaseUnavailable)


def test_value_rejected_by_the_driver_is_data_rejected() -> None:
    for error in (StatementError("x", "INSERT", None, ValueError(VALUE)), OverflowError(), UnicodeError()):
        assert isinstance(named(error), DataRejected)


@pytest.mark.parametrize("error", [of_mysql(1406), of_mysql(2006), of_mysql(1213), of_sqlite(5)])
def test_error_message_has_the_code_and_no_value(error: DBAPIError) -> None:
    said = str(named(error))
    assert VALUE not in said
    assert "OperationalError" in said


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(LookupError), translate_errors():
        raise LookupError
