"""Roles for people who have no account yet."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, EmailText, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0050"
down_revision = "0049"


def upgrade() -> None:
    create_table(
        "role_grants",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("email", EmailText, nullable=False),
        Column("role", String(16), nullable=False),
        Column("role_ends_at", UtcDateTime),
        Column("reason", String(255), nullable=False),
        Column("granted_at", UtcDateTime, nullable=False),
        Column("granted_by", String(128), nullable=False),
        Column("expires_at", UtcDateTime, nullable=False),
        Column("used_at", UtcDateTime),
        Column("revoked_at", UtcDateTime),
        Column("user_id", BigId),
    )
    create_index("idx_role_grants_email", "role_grants", "email")
