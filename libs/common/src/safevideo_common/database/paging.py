"""Lists of rows: a filter's conditions, and one page of what matches them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Row, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.errors import ValidationFailed

Order = Literal["asc", "desc"]


def equal(*conditions: tuple[Column[Any], object]) -> list[ColumnElement[bool]]:
    """Return a condition for each column whose value is not None."""
    return [column == value for column, value in conditions if value is not None]


def within(column: Column[Any], begin: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    """Return the conditions of a range: `begin` belongs to it, `end` does not, None leaves it open."""
    after = [] if begin is None else [column >= begin]  # SQLAlchemy cannot compare with None
    return after if end is None else [*after, column < end]


def behind(column: Column[Any], row_id: Column[Any], position: tuple[object, int], order: Order) -> ColumnElement[bool]:
    """Return the condition of the rows behind `position` in a sort by `column` and, for ties, by `row_id`.

    The first part alone is a range of the index of `column`: MySQL takes none from a comparison of two columns at once.
    """
    value, last_id = position
    if order == "asc":
        return and_(column >= value, or_(column > value, row_id > last_id))
    return and_(column <= value, or_(column < value, row_id < last_id))


async def find_page(
    reading: AsyncConnection,
    query: Select[*tuple[Any, ...]],
    sort: Sequence[Column[Any]],
    *,
    page: int,
    limit: int,
    order: Order,
    after: int | None = None,
) -> tuple[Sequence[Row[*tuple[Any, ...]]], int]:
    """Return one page of `query`, counted from 1, and how many rows there are on all pages.

    The last column of `sort` is the row's id. `after` is the id of a row: the page is what follows it, so no row comes
    twice or is left out while others are inserted. Raises `ValidationFailed` if that row is not there any more.
    """
    total = await reading.scalar(query.with_only_columns(func.count(), maintain_column_froms=True))
    if after is not None:
        query = query.where(behind(sort[0], sort[-1], await _position(reading, sort, after), order))
    by = sort if order == "asc" else [column.desc() for column in sort]
    rows = await reading.execute(query.order_by(*by).limit(limit).offset((page - 1) * limit))
    return rows.all(), total or 0


async def _position(reading: AsyncConnection, sort: Sequence[Column[Any]], row_id: int) -> tuple[object, int]:
    row = (await reading.execute(select(*sort).where(sort[-1] == row_id))).one_or_none()
    if row is None:
        raise ValidationFailed("That row is not there any more.", details={"after": "names no row; begin again"})
    return row[0], row_id
