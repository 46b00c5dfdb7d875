"""Check that the database has the schema that this build needs."""

from pathlib import Path
from typing import Final

from sqlalchemy import column, inspect, select, table
from sqlalchemy.engine import Connection

from safevideo_common.database.engine import Database
from safevideo_common.errors import SchemaBehind

MIGRATIONS: Final = Path(__file__).parent / "migrations"

_version: Final = table("alembic_version", column("version_num"))


def head() -> str:
    """Return the number of the newest migration in this build, such as `0010`."""
    return max(path.name[:4] for path in MIGRATIONS.glob("versions/[0-9]*.py"))


def revision(connection: Connection) -> str | None:
    """Return the number of the database's last migration, or None for an empty database."""
    if not inspect(connection).has_table(_version.name):
        return None
    number: str | None = connection.scalar(select(_version.c.version_num))
    return number


async def check_schema(database: Database) -> None:
    """Raise `SchemaBehind`, which says what to run, if this build needs a newer schema.

    A schema ahead of the build is allowed: migrations only add, and a rolling deployment migrates first.
    """
    async with database.read_connection() as connection:
        current = await connection.run_sync(revision)
    if current is None:
        raise SchemaBehind("The database is empty. Run: safevideo migrate")
    if current < head():
        raise SchemaBehind(f"The database is at {current}, this build needs {head()}. Run: safevideo migrate")
