"""The rights of an account, apart from what it is merged into; and the generation that its sessions name."""

from sqlalchemy import Column, String, text

from safevideo_common.database.dialect import BigId, EmailText, UtcDateTime
from safevideo_common.database.migrations.operations import add_column, create_index

revision = "0044"
down_revision = "0043"


def upgrade() -> None:
    add_column("users", Column("generation", String(32), nullable=False, server_default=text("''")))
    add_column("users", Column("version", BigId, nullable=False, server_default=text("0")))
    add_column("users", Column("merged_email", EmailText))
    add_column("users", Column("role_source", String(16)))
    add_column("users", Column("role_ends_at", UtcDateTime))
    add_column("users", Column("role_afterwards", String(16)))
    add_column("users", Column("suspended_at", UtcDateTime))
    create_index("idx_users_merged_email", "users", "merged_email")
