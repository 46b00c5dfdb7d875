"""The idempotency keys of callers of the API, with the response of each."""

from sqlalchemy import Column, Integer, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, ExternalIdText, JsonDocument, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    create_table(
        "idempotency_keys",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("principal", ExternalIdText, nullable=False),
        Column("route", String(128), nullable=False),
        Column("idempotency_key", ExternalIdText, nullable=False),
        Column("fingerprint", String(64), nullable=False),
        Column("token", String(32), nullable=False),
        Column("expires_at", UtcDateTime, nullable=False),
        Column("status", Integer),
        Column("document", JsonDocument),
        UniqueConstraint("principal", "route", "idempotency_key", name="uq_idempotency_keys_key"),
    )
    create_index("idx_idempotency_keys_expires", "idempotency_keys", "expires_at")
