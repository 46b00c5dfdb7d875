"""Bring a database's schema up to this build, with Alembic."""

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

Told = Callable[[str, str], None]
"""Hears of each migration that has been run: its number and its first line."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Where a database stands. `current` is `None` for an empty one."""

    current: str | None
    head: str

    @property
    def is_behind(self) -> bool:
        """Whether there is something to migrate."""
        return self.current is None or self.current < self.head

    @property
    def reached(self) -> str:
        """Where it stands once what is missing has been run: a schema ahead of this build stays where it is."""
        return self.head if self.current is None else max(self.current, self.head)


async def schema_state(url: str) -> SchemaState:
    """How far the database is. Raises the errors of `database/faults.py`."""
    with translate_errors():
        async with open_database(url, pool_size=1) as engine:
            return await _state(engine)


def run_quietly(_number: str, _title: str) -> None:
    """Tell nobody."""


async def migrate(url: str, told: Told = run_quietly) -> SchemaState:
    """Run what is missing and return where the database stood before. Any number may call this at once.

    It has no deadline, since an index on a large table takes as long as it takes. When it is cut off, run it again. A
    schema that a newer build has migrated is left alone.
    """
    with translate_errors():
        async with open_database(url, pool_size=2) as engine:
            if not (state := await _state(engine)).is_behind:
                return state
            async with engine.connect() as connection, migration_lock(connection):
                # By a connection of its own: Alembic commits its steps only where it finds no transaction open.
                if (state := await _state(engine)).is_behind:
                    await connection.run_sync(_upgrade, told)
    return state


async def _state(engine: AsyncEngine) -> SchemaState:
    async with engine.execution_options(reading=True).connect() as connection:
        return SchemaState(await connection.run_sync(revision), head())


def _upgrade(connection: Connection, told: Told) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["told"] = told
    command.upgrade(config, "head")
