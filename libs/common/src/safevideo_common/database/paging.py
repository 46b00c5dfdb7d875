"""Lists of rows: a filter's conditions, and one page of what matches them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Row, Select, func
from sqlalchemy.ext.asyncio import AsyncConnection

Order = Literal["asc", "desc"]


def equal(*conditions: tuple[Column[Any], object]) -> list[ColumnElement[bool]]:
    """Return a condition for each column whose value is not None."""
    return [column == value for column, value in conditions if value is not None]


def within(column: Column[Any], begin: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    """Return the conditions of a range: `begin` belongs to it, `end` does not, None leaves it open."""
    after = [] if begin is None else [column >= begin]  # SQLAlchemy cannot compare with None
    return after if end is None else [*after, column < end]


async def find_page(
    reading: AsyncConnection,
    query: Select[*tuple[Any, ...]],
    sort: Sequence[Column[Any]],
    *,
    page: int,
    limit: int,
    order: Order,
) -> tuple[Sequence[Row[*tuple[Any, ...]]], int]:
    """Return one page of `query`, counted from 1, and how many rows there are on all pages."""
    total = await reading.scalar(query.with_only_columns(func.count(), maintain_column_froms=True))
    by = sort if order == "asc" else [column.desc() for column in sort]
    rows = await reading.execute(query.order_by(*by).limit(limit).offset((page - 1) * limit))
    return rows.all(), total or 0
