"""The secrets that partners sign webhooks with, encrypted, and when each was last used."""

from sqlalchemy import Column, LargeBinary, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    create_table(
        "webhook_secrets",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("integration_id", BigId, nullable=False),
        Column("name", String(64), nullable=False),
        Column("ciphertext", LargeBinary(2048)),
        Column("created_at", UtcDateTime, nullable=False),
        Column("expires_at", UtcDateTime),
        Column("last_used_at", UtcDateTime),
        UniqueConstraint("integration_id", "name", name="uq_webhook_secrets_name"),
    )
