"""The environment of a command: its database, and the operator at the terminal.

Imports are most of what a start costs. What few commands need is imported by the functions that need it.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from getpass import getuser
from pathlib import Path
from typing import Final
from uuid import uuid4

from safevideo_common.audit.store import Caller
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.observability.log_sink import LogSink, log_folder
from safevideo_common.settings import DatabaseSettings, ProcessSettings, load_settings

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


class LogSettings(ProcessSettings):
    """The setting of a command that reads or writes log files."""

    log_dir: Path | None = None


def log_action(message: str, operator: Caller, **fields: object) -> None:
    """Write a line to `audit.log`, as the API does. Without a log folder that this user may write, do nothing."""
    from safevideo_common.observability.logs import build_logger

    with suppress(OSError):
        sink = LogSink(log_folder(load_settings(LogSettings).log_dir), stdout=False)
        logger = build_logger("cli", sink).bind(stream="audit", actor=operator.name, request_id=operator.request_id)
        logger.info(message, **fields)
        sink.close()


def caller() -> Caller:
    """Return the user of this terminal, for the audit log. The request id joins the entries of one command."""
    return Caller(getuser()[:_NAME_LENGTH], "cli", socket.gethostname()[:_NAME_LENGTH], uuid4().hex)
