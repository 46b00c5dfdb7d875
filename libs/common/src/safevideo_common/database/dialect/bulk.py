"""Bulk writes: many rows in one statement, at less than the driver's own cost.

SQLAlchemy would make a dictionary of each row, and the MySQL driver would examine the type of each value. For a batch
of 500 rows that is half of the database's time. Here rows are tuples, the statement is compiled once, and for MySQL the
rows are part of its text (`literals.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Dialect, Insert
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect.columns import is_mariadb
from safevideo_common.database.dialect.literals import Literal, literal_of
from safevideo_common.database.dialect.upserts import Upsert
from safevideo_common.errors import DataRejected

STATEMENT_CHARACTERS: Final = 1_000_000
"""Limit for the rows of one statement: far below `max_allowed_packet` (16 MB), for any characters."""

_NO_PARAMETERS: Final = {"no_parameters": True}  # or the driver would interpret a percent sign

Row = tuple[object, ...]
Processor = Callable[[object], object]


class _Statement(Protocol):
    async def execute(self, tx: AsyncConnection, rows: Iterable[Row]) -> None: ...


class Bulk:
    """An insert or upsert, executed with many rows at once. A row has the values of `columns`, in that order.

    The statement's assignments must hold no values of their own (`dialect/upserts.py`).
    """

    def __init__(self, statement: Insert | Upsert, columns: Sequence[str]) -> None:
        table = statement.table
        # Without a dictionary SQLAlchemy names the columns in the order of the table.
        in_order = [column.name for column in table.columns if column.name in columns]
        if in_order != list(columns):
            raise ValueError(f"a row of {table.name} must be in the order of its columns: {', '.join(in_order)}")
        self._statement: Final = statement
        self._columns: Final = in_order
        self._compiled: Final[dict[tuple[str, bool], _Statement]] = {}

    async def execute(self, tx: AsyncConnection, rows: Iterable[Row]) -> None:
        """Write all rows, if there are any. Raises `DataRejected` for a value of another type than its column."""
        kind = (tx.dialect.name, is_mariadb(tx.dialect))
        compiled = self._compiled.get(kind) or self._compiled.setdefault(kind, self._compile(tx.dialect))
        await compiled.execute(tx, rows)

    def _compile(self, dialect: Dialect) -> _Statement:
        columns = self._statement.table.columns
        types = [columns[name].type for name in self._columns]
        statement = self._statement.statement(dialect) if isinstance(self._statement, Upsert) else self._statement
        sql = str(statement.compile(dialect=dialect, column_keys=self._columns))
        if dialect.name == "sqlite":
            processors = (
                (index, kind.dialect_impl(dialect).bind_processor(dialect)) for index, kind in enumerate(types)
            )
            return _WithParameters(sql, tuple((index, process) for index, process in processors if process))
        before, _, after = sql.partition(f"({', '.join(['%s'] * len(types))})")
        return _WithLiterals(before, tuple(literal_of(kind, dialect) for kind in types), after)


class _WithParameters(NamedTuple):
    """A statement that the driver gets with the rows as parameters."""

    sql: str
    processors: tuple[tuple[int, Processor], ...]
    """The index and the conversion of each column whose values the driver does not take as they are."""

    async def execute(self, tx: AsyncConnection, rows: Iterable[Row]) -> None:
        with _reject_wrong_types():
            ready = [self._processed(row) for row in rows]
        if ready:
            await tx.exec_driver_sql(self.sql, ready)

    def _processed(self, row: Row) -> Row:
        values = list(row)
        for index, process in self.processors:
            values[index] = process(values[index])
        return tuple(values)


class _WithLiterals(NamedTuple):
    """A statement that the driver gets as one text."""

    before: str
    literals: tuple[Literal, ...]
    after: str

    async def execute(self, tx: AsyncConnection, rows: Iterable[Row]) -> None:
        with _reject_wrong_types():
            written = [self._written(row) for row in rows]
        for part in _split(written):
            await self._send(tx, ",".join(part))

    def _written(self, row: Row) -> str:
        return f"({','.join([write(value) for write, value in zip(self.literals, row, strict=True)])})"

    async def _send(self, tx: AsyncConnection, rows: str) -> None:
        try:
            await tx.exec_driver_sql(f"{self.before}{rows}{self.after}", execution_options=_NO_PARAMETERS)
        except StatementError as error:
            error.statement = f"{self.before}...{self.after}"  # the text of an error is logged
            raise


@contextmanager
def _reject_wrong_types() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise DataRejected("a value does not fit its column") from error


def _split(written: Iterable[str]) -> Iterator[list[str]]:
    """Split the rows into the parts of a statement each."""
    part: list[str] = []
    characters = 0
    for row in written:
        if part and characters + len(row) > STATEMENT_CHARACTERS:
            yield part
            part, characters = [], 0
        part.append(row)
        characters += len(row)
    if part:
        yield part
