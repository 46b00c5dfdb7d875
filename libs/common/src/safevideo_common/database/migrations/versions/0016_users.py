"""The accounts of people."""

from sqlalchemy import Column, String, text

from safevideo_common.database.dialect import BigId, Boolean, EmailText, SubjectText, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    create_table(
        "users",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("email", EmailText),
        Column("is_email_verified", Boolean),
        Column("sharegram_id", SubjectText),
        Column("username", String(255)),
        Column("display_name", String(255)),
        Column("profile_image", String(2048)),
        Column("role", String(16), nullable=False, server_default=text("'performer'")),
        Column("merged_into", BigId),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        Column("last_sign_in_at", UtcDateTime),
    )
    create_index("idx_sharegram_id", "users", "sharegram_id")
    create_index("idx_users_email", "users", "email")
    create_index("idx_users_merged_into", "users", "merged_into")
