"""Migration of the schema to this build, with Alembic."""

from collections.abc import Callable
from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from safevideo_common.database.dialect import migration_lock
from safevideo_common.database.engine import open_database
from safevideo_common.database.errors import translate_errors
from safevideo_common.database.schema import MIGRATIONS, head, revision

ReportProgress = Callable[[str, str], None]
"""Called after each migration with its number and title."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The migrations of a database. `current` is None for an empty one."""

    current: str | None
    head: str

    @property
    def is_behind(self) -> bool:
        """Return whether there is something to migrate."""
        return self.current is None or self.current < self.head

    @property
    def target(self) -> str:
        """Return the number after the migration. A schema ahead of this build stays as it is."""
        return self.head if self.current is None else max(self.current, self.head)


async def schema_state(url: str) -> SchemaState:
    """Return the state of the schema. Raises the errors of `database/errors.py`."""
    with translate_errors():
        async with open_database(url, pool_size=1) as engine:
            return await _state(engine)


def run_quietly(_number: str, _title: str) -> None:
    """Report nothing."""


async def migrate(url: str, report: ReportProgress = run_quietly) -> SchemaState:
    """Run the missing migrations and return the state before. Several processes may call this concurrently.

    It has no deadline, since an index on a large table takes long. If it is interrupted, run it again. A schema that a
    newer build has migrated stays as it is.
    """
    with translate_errors():
        async with open_database(url, pool_size=2) as engine:
            if not (state := await _state(engine)).is_behind:
                return state
            async with engine.connect() as connection, migration_lock(connection):
                # On another connection: Alembic commits its steps only if it finds no open transaction.
                if (state := await _state(engine)).is_behind:
                    await connection.run_sync(_upgrade, report)
    return state


async def _state(engine: AsyncEngine) -> SchemaState:
    async with engine.execution_options(reading=True).connect() as connection:
        return SchemaState(await connection.run_sync(revision), head())


def _upgrade(connection: Connection, report: ReportProgress) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["report"] = report
    command.upgrade(config, "head")
