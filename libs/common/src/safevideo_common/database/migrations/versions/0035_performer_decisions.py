"""Decisions about performers, and the indexes of their list."""

from sqlalchemy import Column

from safevideo_common.database.dialect import JsonDocument, UtcDateTime
from safevideo_common.database.migrations.operations import add_column, create_index

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    add_column("performers", Column("status_decision", JsonDocument))
    add_column("performers", Column("suspended_until", UtcDateTime))
    create_index("idx_performers_status", "performers", "status", "created_at")
    create_index("idx_performers_created", "performers", "created_at")
    create_index("idx_performers_updated", "performers", "updated_at")
    create_index("idx_performers_username", "performers", "username")
    create_index("idx_performers_suspended", "performers", "suspended_until")
