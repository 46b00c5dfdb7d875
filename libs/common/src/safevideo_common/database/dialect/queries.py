"""Parts of queries that differ by server: its time, index hints, row estimates."""

from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, Table, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from safevideo_common.database.dialect.columns import UtcDateTime

_MYSQL: Final = ("mysql", "mariadb")

_Query = TypeVar("_Query", bound=Select[*tuple[object, ...]])


class now_plus(ColumnElement[datetime]):  # noqa: N801 - reads as SQL, like SQLAlchemy's own
    """The database's time `seconds` after the start of the statement, before it waits for a lock.

    It is the same for all processes, whatever their clocks say. SQLite has milliseconds, the others microseconds.
    """

    inherit_cache = True
    type = UtcDateTime()
    _traverse_internals = [("seconds", InternalTraversal.dp_clauseelement)]  # noqa: RUF012 - SQLAlchemy's protocol

    def __init__(self, seconds: float | ColumnElement[float] = 0) -> None:
        self.seconds: Final = seconds if isinstance(seconds, ColumnElement) else literal(float(seconds))


@compiles(now_plus, *_MYSQL)
def _now_plus_mysql(element: now_plus, compiler: SQLCompiler, **options: object) -> str:
    return f"UTC_TIMESTAMP(6) + INTERVAL {compiler.process(element.seconds, **options)} SECOND"


@compiles(now_plus, "sqlite")
def _now_plus_sqlite(element: now_plus, compiler: SQLCompiler, **options: object) -> str:
    # With the digits that `UtcDateTime` writes, so that text sorts like time.
    seconds = compiler.process(element.seconds, **options)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {seconds} || ' seconds') || '000')"


def force_index(query: _Query, table: FromClause, index: str) -> _Query:
    """Read `table` by `index` on MySQL, where the planner chooses badly. On SQLite it changes nothing."""
    for name in _MYSQL:
        query = query.with_hint(table, f"FORCE INDEX ({index})", name)
    return query


async def estimate_row_count(connection: AsyncConnection, table: Table) -> int:
    """Return the rows of `table` from the statistics of MySQL, often a fifth off. SQLite counts them."""
    if connection.dialect.name == "sqlite":
        return await connection.scalar(select(func.count()).select_from(table)) or 0
    # The table of the statistics is a day old on MySQL. The plan of a query uses the current ones, and this is a format
    # that MariaDB has too: MySQL 9 draws a tree by default.
    explain = text(f"EXPLAIN FORMAT=TRADITIONAL SELECT COUNT(*) FROM {table.name}")  # noqa: S608 - one of our tables
    plan = (await connection.execute(explain)).mappings().one()
    return int(plan["rows"] or 0)
