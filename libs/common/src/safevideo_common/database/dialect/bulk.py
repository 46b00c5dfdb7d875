"""Writing many rows with one statement, at less than the driver's own cost.

SQLAlchemy would look each row's values up by name, in dictionaries that it makes for the purpose, and the MySQL driver
would look at each value's type: for a batch of 500 that is half of the time that the database takes. Here the rows are
tuples, the statement is compiled once, and for MySQL the rows are made part of its text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Dialect, Insert
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect.literals import Literal, literal_of
from safevideo_common.database.dialect.servers import is_mariadb
from safevideo_common.database.dialect.upserts import Upsert
from safevideo_common.errors import DataRejected

STATEMENT_CHARACTERS: Final = 1_000_000
"""Of a statement's rows: far below what a server takes (`max_allowed_packet`, 16 MB), whatever the characters are."""

_NO_PARAMETERS: Final = {"no_parameters": True}  # or the driver would take a percent sign for the place of one

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
        # Given no dictionary to go by, SQLAlchemy names the columns in the order of the table.
        in_order = [column.name for column in table.columns if column.name in columns]
        if in_order != list(columns):
            raise ValueError(f"a row of {table.name} must be in the order of its columns: {', '.join(in_order)}")
        self._statement: Final = statement
        self._columns: Final = in_order
        self._compiled: Final[dict[tuple[str, bool], _Statement]] = {}

    async def execute(self, tx: AsyncConnection, rows: Iterable[Row]) -> None:
        """Write all rows, if there are any. Raises `DataRejected` for a value that is not of its column's type."""
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
                (place, kind.dialect_impl(dialect).bind_processor(dialect)) for place, kind in enumerate(types)
            )
            return _WithParameters(sql, tuple((place, process) for place, process in processors if process))
        before, _, after = sql.partition(f"({', '.join(['%s'] * len(types))})")
        return _WithLiterals(before, tuple(literal_of(kind, dialect) for kind in types), after)


class _WithParameters(NamedTuple):
    """The driver gets the statement and the rows apart."""

    sql: str
    processors: tuple[tuple[int, Processor], ...]
    """For the columns whose values the driver does not take as they are: place in the row, and what to do."""

    async def execute(self, tx: AsyncConnection, rows: Iterable[Row]) -> None:
        with _refusing():
            ready = [self._processed(row) for row in rows]
        if ready:
            await tx.exec_driver_sql(self.sql, ready)

    def _processed(self, row: Row) -> Row:
        values = list(row)
        for place, process in self.processors:
            values[place] = process(values[place])
        return tuple(values)


class _WithLiterals(NamedTuple):
    """The driver gets one text."""

    before: str
    literals: tuple[Literal, ...]
    after: str

    async def execute(self, tx: AsyncConnection, rows: Iterable[Row]) -> None:
        with _refusing():
            written = [self._written(row) for row in rows]
        for some in _cut(written):
            await self._send(tx, ",".join(some))

    def _written(self, row: Row) -> str:
        return f"({','.join([write(value) for write, value in zip(self.literals, row, strict=True)])})"

    async def _send(self, tx: AsyncConnection, rows: str) -> None:
        try:
            await tx.exec_driver_sql(f"{self.before}{rows}{self.after}", execution_options=_NO_PARAMETERS)
        except StatementError as error:
            error.statement = f"{self.before}...{self.after}"  # an error's text goes into logs, the values must not
            raise


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise DataRejected("a value does not fit its column") from error


def _cut(written: Iterable[str]) -> Iterator[list[str]]:
    """Runs of rows that make a statement each."""
    some: list[str] = []
    characters = 0
    for row in written:
        if some and characters + len(row) > STATEMENT_CHARACTERS:
            yield some
            some, characters = [], 0
        some.append(row)
        characters += len(row)
    if some:
        yield some
