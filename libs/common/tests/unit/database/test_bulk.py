"""The statements that batches are written with."""

import pytest
from sqlalchemy import Dialect, case, insert
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.dialects.mysql.base import MySQLDialect

from safevideo_common.database.dialect import Bulk, Upsert
from safevideo_common.database.tables import performers


def mysql_dialect() -> MySQLDialect:
    """The dialect as SQLAlchemy leaves it once it is connected to MySQL 8.0.20 or newer."""
    dialect = mysql.dialect()
    dialect._requires_alias_for_on_duplicate_key = True
    return dialect


def test_an_upsert_takes_what_would_have_been_inserted_without_a_value_of_its_own() -> None:
    upsert = Upsert(performers, ("id",), ("bio", "status"))

    def written(dialect: Dialect) -> str:
        return str(upsert.statement(dialect).compile(dialect=dialect, column_keys=["id", "bio", "status"]))

    assert written(mysql_dialect()).endswith(
        "VALUES (%s, %s, %s) AS new ON DUPLICATE KEY UPDATE bio = new.bio, status = new.status"
    )
    assert written(mysql.dialect(is_mariadb=True)).endswith(
        "VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE bio = VALUES(bio), status = VALUES(status)"
    )
    assert written(sqlite.dialect()).endswith(
        "VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET bio = excluded.bio, status = excluded.status"
    )


def test_an_assignment_may_compute_from_both_rows() -> None:
    bio, dialect = performers.c.bio, sqlite.dialect()
    upsert = Upsert(performers, ("id",), lambda new: {"bio": case((new.bio > bio, new.bio), else_=bio)})
    assert str(upsert.statement(dialect).compile(dialect=dialect, column_keys=["id", "bio"])).endswith(
        "DO UPDATE SET bio = CASE WHEN (excluded.bio > performers.bio) THEN excluded.bio ELSE performers.bio END"
    )


def test_columns_out_of_the_table_s_order_are_refused_when_the_statement_is_made() -> None:
    with pytest.raises(ValueError, match="order of its columns: id, bio"):
        Bulk(insert(performers), ("bio", "id"))
