"""The mirror of Sharegram's performers."""

from sqlalchemy import Column, String, Text, UniqueConstraint

from safevideo_common.database.dialect import (
    BigId,
    Boolean,
    ExternalIdText,
    JsonDocument,
    UtcDateTime,
)
from safevideo_common.database.migrations.operations import create_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_table(
        "performers",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("sharegram_id", ExternalIdText, nullable=False),
        Column("username", String(255)),
        Column("display_name", String(255)),
        Column("email", String(255)),
        Column("profile_image", String(2048)),
        Column("bio", Text),
        Column("verified", Boolean, nullable=False),
        Column("status", String(16), nullable=False),
        Column("field_versions", JsonDocument, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        UniqueConstraint("sharegram_id", name="uq_performers_sharegram_id"),
    )
