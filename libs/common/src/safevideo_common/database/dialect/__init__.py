"""All that MySQL, MariaDB and SQLite do differently: column types, connections, bulk writes, upserts, locks,
time and turns.

The URL says which: `mysql+aiomysql://` (MySQL 8 or MariaDB 10.6+) or `sqlite+aiosqlite://` (embedded run).
What their errors mean is in `database/faults.py`.
"""

from safevideo_common.database.dialect.bulk import Bulk
from safevideo_common.database.dialect.columns import (
    BigId,
    Boolean,
    ExternalIdText,
    JsonDocument,
    UtcDateTime,
)
from safevideo_common.database.dialect.connections import open_engine
from safevideo_common.database.dialect.hints import force_index
from safevideo_common.database.dialect.locks import (
    for_update,
    for_update_skip_locked,
    migration_lock,
)
from safevideo_common.database.dialect.moments import now_plus
from safevideo_common.database.dialect.sizes import estimate_row_count
from safevideo_common.database.dialect.turns import sqlite_write_lock
from safevideo_common.database.dialect.upserts import Incoming, Upsert

__all__ = [
    "BigId",
    "Boolean",
    "Bulk",
    "ExternalIdText",
    "Incoming",
    "JsonDocument",
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
