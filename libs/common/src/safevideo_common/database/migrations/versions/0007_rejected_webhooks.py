"""The quarantine: webhooks whose signature was refused."""

from sqlalchemy import Column, Integer, LargeBinary, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, ExternalIdText, JsonDocument, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    create_table(
        "rejected_webhooks",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("fingerprint", String(64), nullable=False),
        Column("received_at", UtcDateTime, nullable=False),
        Column("last_seen_at", UtcDateTime, nullable=False),
        Column("times_seen", Integer, nullable=False),
        Column("reason", String(64), nullable=False),
        Column("code", String(64), nullable=False),
        Column("scheme", String(32), nullable=False),
        Column("headers", JsonDocument, nullable=False),
        Column("body", LargeBinary(1 << 21), nullable=False),
        Column("body_sha256", String(64), nullable=False),
        Column("body_bytes", Integer, nullable=False),
        Column("remote", String(64), nullable=False),
        Column("request_id", String(128)),
        Column("released_at", UtcDateTime),
        Column("released_event_id", ExternalIdText),
        UniqueConstraint("fingerprint", name="uq_rejected_webhooks_fingerprint"),
    )
    create_index(
        "idx_rejected_webhooks_share", "rejected_webhooks", "remote", "received_at", "body_bytes", "released_at"
    )
    create_index("idx_rejected_webhooks_received", "rejected_webhooks", "received_at")
