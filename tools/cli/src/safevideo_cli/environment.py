"""The environment of a command: its database, and the operator at the terminal."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from getpass import getuser
from typing import Final
from uuid import uuid4

from safevideo_common.audit.store import Caller
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.settings import DatabaseSettings, load_settings

_NAME_LENGTH: Final = 64


def database_url() -> str:
    """Return `DATABASE_URL`. Raise `StartupError` when it is not set."""
    return load_settings(DatabaseSettings).database_url.get_secret_value()


@asynccontextmanager
async def open_database() -> AsyncIterator[Database]:
    """Open the database. Raise `StartupError`, or `SchemaBehind` before it is migrated."""
    async with Database.open(database_url(), pool_size=1) as database:
        await check_schema(database)
        yield database


def caller() -> Caller:
    """Return the user of this terminal, for the audit log. The request id joins the entries of one command."""
    return Caller(getuser()[:_NAME_LENGTH], "cli", socket.gethostname()[:_NAME_LENGTH], uuid4().hex)
