"""The keys of systems that call our API."""

from sqlalchemy import Column, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_table(
        "api_keys",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("client", String(64), nullable=False),
        Column("key_hash", String(64), nullable=False),
        Column("role", String(16), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("expires_at", UtcDateTime),
        Column("last_used_at", UtcDateTime),
        Column("revoked_at", UtcDateTime),
        UniqueConstraint("key_hash", name="uq_api_keys_hash"),
    )
    create_index("idx_api_keys_client", "api_keys", "client")
