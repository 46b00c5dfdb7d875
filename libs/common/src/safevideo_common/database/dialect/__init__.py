"""All that MySQL, MariaDB and SQLite do differently: column types, connections, bulk writes, upserts, locks,
time and turns.

The URL says which: `mysql+aiomysql://` (MySQL 8 or MariaDB 10.6+) or `sqlite+aiosqlite://` (embedded run).
What their errors mean is in `database/faults.py`.
"""

from safevideo_common.database.dialect.bulk import Bulk
from safevideo_common.database.dialect.columns import BigId, Boolean, ExternalIdText, JsonDocument, UtcMoment
from safevideo_common.database.dialect.connections import open_engine
from safevideo_common.database.dialect.hints import by_index
from safevideo_common.database.dialect.locks import for_update, for_update_of_free, sole_migrator
from safevideo_common.database.dialect.moments import from_now
from safevideo_common.database.dialect.sizes import approximate_rows
from safevideo_common.database.dialect.turns import turn_to_write
from safevideo_common.database.dialect.upserts import incoming, upsert

__all__ = [
    "BigId",
    "Boolean",
    "Bulk",
    "ExternalIdText",
    "JsonDocument",
    "UtcMoment",
    "approximate_rows",
    "by_index",
    "for_update",
    "for_update_of_free",
    "from_now",
    "incoming",
    "open_engine",
    "sole_migrator",
    "turn_to_write",
    "upsert",
]
