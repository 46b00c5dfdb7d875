"""All differences between MySQL, MariaDB and SQLite, except their errors (`database/errors.py`).

The URL selects the server: `mysql+aiomysql://` (MySQL 8 or MariaDB 10.6+) or `sqlite+aiosqlite://` (embedded run).
"""

from safevideo_common.database.dialect.bulk import Bulk
from safevideo_common.database.dialect.columns import (
    BigId,
    Boolean,
    EmailText,
    ExternalIdText,
    JsonDocument,
    SubjectText,
    UtcDateTime,
)
from safevideo_common.database.dialect.connections import open_engine
from safevideo_common.database.dialect.locks import (
    for_update,
    for_update_skip_locked,
    migration_lock,
)
from safevideo_common.database.dialect.queries import estimate_row_count, force_index, now_plus
from safevideo_common.database.dialect.sqlite import sqlite_write_lock
from safevideo_common.database.dialect.upserts import Incoming, Upsert

__all__ = [
    "BigId",
    "Boolean",
    "Bulk",
    "EmailText",
    "ExternalIdText",
    "Incoming",
    "JsonDocument",
    "SubjectText",
    "Upsert",
    "UtcDateTime",
    "estimate_row_count",
    "for_update",
    "for_update_skip_locked",
    "force_index",
    "migration_lock",
    "now_plus",
    "open_engine",
    "sqlite_write_lock",
]
