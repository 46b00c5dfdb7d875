"""Locks on rows, and the lock of a migration."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.errors import DatabaseConflict

MIGRATION_WAIT_SECONDS: Final = 60

_Query = TypeVar("_Query", bound=Select[*tuple[object, ...]])


def for_update(query: _Query) -> _Query:
    """Lock the rows that `query` reads until the transaction ends.

    SQLite has no row locks and needs none: a writing transaction locks the database from its first statement.
    """
    return query.with_for_update()


def for_update_skip_locked(query: _Query) -> _Query:
    """Lock the rows that `query` reads, without those that another transaction has locked.

    SQLite returns all rows: no other transaction writes at the same time.
    """
    return query.with_for_update(skip_locked=True)


@asynccontextmanager
async def migration_lock(connection: AsyncConnection) -> AsyncIterator[None]:
    """Exclude every other migration of this database until `connection` is closed.

    On SQLite it is one writing transaction around all changes. MySQL commits each change of the schema by itself, so
    there it is a named lock of the session. Raises `DatabaseConflict` if another migration runs for too long.
    """
    if connection.dialect.name == "sqlite":
        async with connection.begin():
            yield
        return
    schema = await connection.scalar(select(func.database()))
    granted = await connection.scalar(select(func.get_lock(_migrator_lock(str(schema)), MIGRATION_WAIT_SECONDS)))
    await connection.commit()
    if not granted:
        raise DatabaseConflict(f"another migration has been running for over {MIGRATION_WAIT_SECONDS} s")
    yield


def _migrator_lock(schema: str) -> str:
    # The server's locks are one for all schemas, and a name has 64 characters at most.
    return f"safevideo.migrate.{hashlib.sha256(schema.encode()).hexdigest()[:32]}"
