"""Orders to erase a person."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    create_table(
        "erasure_orders",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("reason", String(255), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("created_by", String(128), nullable=False),
        Column("applied_at", UtcDateTime),
    )
