"""The database's own time, which is one for all processes, whatever their clocks say.

Of a statement that waits for a lock it is the time at which it began to wait.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from safevideo_common.database.dialect.columns import UtcDateTime


class now_plus(ColumnElement[datetime]):  # noqa: N801 - reads as SQL, like SQLAlchemy's own
    """The moment `seconds` after the statement began; SQLite knows it to the millisecond, the others more exactly."""

    inherit_cache = True
    type = UtcDateTime()
    _traverse_internals = [("seconds", InternalTraversal.dp_clauseelement)]  # noqa: RUF012 - SQLAlchemy's protocol

    def __init__(self, seconds: float | ColumnElement[float] = 0) -> None:
        self.seconds: Final = seconds if isinstance(seconds, ColumnElement) else literal(float(seconds))


@compiles(now_plus, "mysql", "mariadb")
def _from_now_mysql(element: now_plus, compiler: SQLCompiler, **options: object) -> str:
    return f"UTC_TIMESTAMP(6) + INTERVAL {compiler.process(element.seconds, **options)} SECOND"


@compiles(now_plus, "sqlite")
def _from_now_sqlite(element: now_plus, compiler: SQLCompiler, **options: object) -> str:
    # With the digits that `UtcDateTime` writes, so that text sorts like time.
    seconds = compiler.process(element.seconds, **options)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {seconds} || ' seconds') || '000')"
