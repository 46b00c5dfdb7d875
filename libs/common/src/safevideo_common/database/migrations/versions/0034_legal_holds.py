"""Legal holds: what keeps the data of a person."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, ExternalIdText, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    create_table(
        "legal_holds",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("user_id", BigId),
        Column("performer_id", ExternalIdText),
        Column("reason", String(255), nullable=False),
        Column("placed_at", UtcDateTime, nullable=False),
        Column("placed_by", String(128), nullable=False),
        Column("released_at", UtcDateTime),
        Column("released_by", String(128)),
        Column("release_reason", String(255)),
    )
    create_index("idx_legal_holds_user", "legal_holds", "user_id")
    create_index("idx_legal_holds_performer", "legal_holds", "performer_id")
