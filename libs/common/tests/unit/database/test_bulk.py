"""The statements that batches are written with."""

import pytest
from sqlalchemy import case, insert
from sqlalchemy.dialects import mysql, sqlite

from safevideo_common.database.dialect import Bulk, excluded, upsert
from safevideo_common.database.tables import performers


def test_an_upsert_takes_what_would_have_been_inserted_without_a_value_of_its_own() -> None:
    statement = upsert(performers, ("id",), ("bio", "status"))
    columns = ["id", "bio", "status"]
    assert str(statement.compile(dialect=mysql.dialect(), column_keys=columns)).endswith(
        "VALUES (%s, %s, %s) AS new ON DUPLICATE KEY UPDATE bio = new.bio, status = new.status"
    )
    assert str(statement.compile(dialect=mysql.dialect(is_mariadb=True), column_keys=columns)).endswith(
        "VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE bio = VALUES(bio), status = VALUES(status)"
    )
    assert str(statement.compile(dialect=sqlite.dialect(), column_keys=columns)).endswith(
        "VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET bio = excluded.bio, status = excluded.status"
    )


def test_an_assignment_may_compute_from_both_rows() -> None:
    longer = case((excluded(performers.c.bio) > performers.c.bio, excluded(performers.c.bio)), else_=performers.c.bio)
    statement = upsert(performers, ("id",), {"bio": longer})
    assert str(statement.compile(dialect=sqlite.dialect(), column_keys=["id", "bio"])).endswith(
        "DO UPDATE SET bio = CASE WHEN (excluded.bio > performers.bio) THEN excluded.bio ELSE performers.bio END"
    )


def test_columns_out_of_the_table_s_order_are_refused_when_the_statement_is_made() -> None:
    with pytest.raises(ValueError, match="order of its columns: id, bio"):
        Bulk(insert(performers), ("bio", "id"))
