"""The statements that migrations are made of. Each does nothing where it has been done."""

from collections.abc import Callable
from typing import Any

from alembic import op
from sqlalchemy import Column, Connection, inspect
from sqlalchemy.schema import SchemaItem


def create_table(name: str, *items: SchemaItem) -> None:
    """Create a table with its columns and unique constraints."""
    if not inspect(op.get_bind()).has_table(name):
        op.create_table(name, *items, mysql_engine="InnoDB", mysql_default_charset="utf8mb4")


def add_column(table: str, column: Column[Any]) -> None:
    """Add a column that may be NULL or has a default to a table that exists."""
    if column.name not in {each["name"] for each in inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def create_index(name: str, table: str, *columns: str, unique: bool = False) -> None:
    """Create an index on a table that exists."""
    if name not in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, list(columns), unique=unique)


def convert_rows(conversion: Callable[[Connection], None]) -> None:
    """Run a conversion of `conversions.py`, which finds nothing to do where it has been done."""
    conversion(op.get_bind())
