"""The audit log: who did what, when and from where."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, JsonDocument, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    create_table(
        "audit_log",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("at", UtcDateTime, nullable=False),
        Column("actor", String(128), nullable=False),
        Column("role", String(16), nullable=False),
        Column("action", String(64), nullable=False),
        Column("remote", String(64)),
        Column("request_id", String(128)),
        Column("details", JsonDocument, nullable=False),
    )
    create_index("idx_audit_log_at", "audit_log", "at")
