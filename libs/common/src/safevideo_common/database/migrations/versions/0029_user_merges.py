"""Merges of accounts, with what they moved."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, JsonDocument, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    create_table(
        "user_merges",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("primary_id", BigId, nullable=False),
        Column("duplicate_id", BigId, nullable=False),
        Column("merged_at", UtcDateTime, nullable=False),
        Column("merged_by", String(128), nullable=False),
        Column("moved", JsonDocument, nullable=False),
        Column("unmerged_at", UtcDateTime),
    )
    create_index("idx_user_merges_duplicate", "user_merges", "duplicate_id")
