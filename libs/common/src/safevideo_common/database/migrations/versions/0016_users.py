"""The accounts of people, their identities at providers, and the merges of accounts."""

from sqlalchemy import Column, String, UniqueConstraint, text

from safevideo_common.database.dialect import BigId, Boolean, EmailText, JsonDocument, SubjectText, UtcDateTime
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
    create_table(
        "user_identities",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("user_id", BigId, nullable=False),
        Column("provider", String(64), nullable=False),
        Column("issuer", SubjectText, nullable=False),
        Column("subject", SubjectText, nullable=False),
        Column("digest", String(64), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        UniqueConstraint("digest", name="uq_user_identities_digest"),
    )
    create_index("idx_user_identities_user", "user_identities", "user_id")
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
