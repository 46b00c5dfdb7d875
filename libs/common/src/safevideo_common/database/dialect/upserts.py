"""Insert or update in bulk: one statement, executed with many rows.

An assignment refers to the row that could not be inserted by `incoming(column)`, and holds no value of its own, so that
`Bulk` can make many rows one statement. Given many rows by itself, the MySQL driver would send each alone: it does not
know `AS new`, which MySQL has, and MariaDB has not, in the place of the deprecated `VALUES(column)`.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Column, ColumnElement, Insert, Table, insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, SyntaxExtension
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from safevideo_common.database.dialect.servers import is_mariadb


def upsert(
    table: Table, key_columns: Sequence[str], update_columns: Sequence[str] | Mapping[str, ColumnElement[object]]
) -> Insert:
    """Insert a row, or update the one that has the same key.

    `update_columns` take what would have been inserted; as a mapping they take what is given, in this order: on MySQL a
    later assignment sees what an earlier one has set. `key_columns` are those of a primary or unique key, and the only
    such key that the rows may collide on.
    """
    if not isinstance(update_columns, Mapping):
        update_columns = {name: excluded(table.c[name]) for name in update_columns}
    return insert(table).ext(_OnConflict(key_columns, update_columns))


class excluded(ColumnElement[object]):  # noqa: N801 - reads as SQL, like SQLAlchemy's own
    """In an upsert's assignment: the value that the row would have had if it had been inserted."""

    inherit_cache = True
    _traverse_internals = [("column", InternalTraversal.dp_clauseelement)]  # noqa: RUF012 - SQLAlchemy's protocol

    def __init__(self, column: Column[object]) -> None:
        self.column = column
        self.type = column.type


class _OnConflict(SyntaxExtension, ClauseElement):
    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012 - SQLAlchemy's protocol
        ("keys", InternalTraversal.dp_string_list),
        ("assignments", InternalTraversal.dp_dml_values),
    ]

    def __init__(self, keys: Sequence[str], assignments: Mapping[str, ColumnElement[object]]) -> None:
        self.keys = list(keys)
        self.assignments = dict(assignments)

    def apply_to_insert(self, insert_stmt: Insert) -> None:
        insert_stmt.apply_syntax_extension_point(self.append_replacing_same_type, "post_values")


@compiles(excluded, "mysql", "mariadb")
def _incoming_mysql(element: excluded, compiler: SQLCompiler, **_: object) -> str:
    name = compiler.preparer.quote(element.column.name)
    return f"VALUES({name})" if is_mariadb(compiler.dialect) else f"new.{name}"


@compiles(excluded, "sqlite")
def _incoming_sqlite(element: excluded, compiler: SQLCompiler, **_: object) -> str:
    return f"excluded.{compiler.preparer.quote(element.column.name)}"


@compiles(_OnConflict, "mysql", "mariadb")
def _on_conflict_mysql(element: _OnConflict, compiler: SQLCompiler, **options: object) -> str:
    alias = "" if is_mariadb(compiler.dialect) else "AS new "
    return f"{alias}ON DUPLICATE KEY UPDATE {_assignments(element, compiler, options)}"


@compiles(_OnConflict, "sqlite")
def _on_conflict_sqlite(element: _OnConflict, compiler: SQLCompiler, **options: object) -> str:
    keys = ", ".join(map(compiler.preparer.quote, element.keys))
    return f"ON CONFLICT ({keys}) DO UPDATE SET {_assignments(element, compiler, options)}"


def _assignments(element: _OnConflict, compiler: SQLCompiler, options: Mapping[str, object]) -> str:
    return ", ".join(
        f"{compiler.preparer.quote(name)} = {compiler.process(value, **options)}"
        for name, value in element.assignments.items()
    )
