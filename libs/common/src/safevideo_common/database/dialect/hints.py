"""Which index a query goes by, where the planner guesses wrongly."""

from typing import Final, TypeVar

from sqlalchemy import FromClause, Select

_MYSQL: Final = ("mysql", "mariadb")

_Query = TypeVar("_Query", bound=Select[*tuple[object, ...]])


def force_index(query: _Query, table: FromClause, index: str) -> _Query:
    """Read `table` by `index` on MySQL, whatever its statistics say. SQLite plans by itself."""
    for name in _MYSQL:
        query = query.with_hint(table, f"FORCE INDEX ({index})", name)
    return query
