"""Insert or update in bulk: one statement, executed with many rows.

An assignment holds no value of its own, so that `Bulk` can make many rows one statement. Given many rows by itself, the
MySQL driver would send each alone: it does not know `AS new`, which MySQL has and MariaDB has not.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Dialect, Insert, Table
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

Incoming = ReadOnlyColumnCollection[str, KeyedColumnElement[object]]
"""The columns of the row that could not be inserted."""


class Upsert(NamedTuple):
    """Insert a row, or update the one that has the same key.

    `key_columns` are those of a primary or unique key, and the only such key that the rows may collide on.
    `update_columns` take what would have been inserted; as a function of that they take what it returns, in this order:
    on MySQL a later assignment sees what an earlier one has set.
    """

    table: Table
    key_columns: Sequence[str]
    update_columns: Sequence[str] | Callable[[Incoming], Mapping[str, ColumnElement[object]]]

    def statement(self, dialect: Dialect) -> Insert:
        """Return the statement for a server of `dialect`."""
        if dialect.name == "sqlite":
            for_sqlite = sqlite.insert(self.table)
            return for_sqlite.on_conflict_do_update(self.key_columns, set_=self._assignments(for_sqlite.excluded))
        for_mysql = mysql.insert(self.table)
        return for_mysql.on_duplicate_key_update(list(self._assignments(for_mysql.inserted).items()))

    def _assignments(self, excluded: Incoming) -> Mapping[str, ColumnElement[object]]:
        if callable(self.update_columns):
            return self.update_columns(excluded)
        return {name: excluded[name] for name in self.update_columns}
