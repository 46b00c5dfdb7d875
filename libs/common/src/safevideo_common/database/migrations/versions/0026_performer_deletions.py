"""Times of a performer: its deletion at Sharegram, and its last sync alone."""

from sqlalchemy import Column

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import add_column

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    add_column("performers", Column("deleted_at", UtcDateTime))
    add_column("performers", Column("synced_at", UtcDateTime))
