"""The inbox: one row for each event and consumer group."""

from sqlalchemy import Column, Integer, LargeBinary, String, UniqueConstraint, text

from safevideo_common.database.dialect import BigId, ExternalIdText, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_table(
        "event_inbox",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("consumer_group", String(64), nullable=False),
        Column("event_id", ExternalIdText, nullable=False),
        Column("event_type", String(128), nullable=False),
        Column("performer_id", ExternalIdText),
        Column("source_topic", String(128), nullable=False),
        Column("source_partition", Integer, nullable=False),
        Column("source_offset", BigId, nullable=False),
        Column("last_offset", BigId, nullable=False),
        Column("occurred_at", UtcDateTime, nullable=False),
        Column("received_at", UtcDateTime, nullable=False),
        Column("decided_at", UtcDateTime, nullable=False),
        Column("status", String(16), nullable=False),
        Column("reason", String(255)),
        Column("tries", Integer, nullable=False, server_default=text("0")),
        Column("next_try_at", UtcDateTime),
        Column("duplicates", Integer, nullable=False, server_default=text("0")),
        Column("request_id", String(128)),
        Column("payload", LargeBinary(1 << 20)),
        UniqueConstraint("event_id", "consumer_group", name="uq_event_inbox_event"),
    )
    create_index("idx_event_inbox_performer", "event_inbox", "performer_id")
    create_index("idx_event_inbox_status", "event_inbox", "status", "consumer_group", "performer_id")
    create_index("idx_event_inbox_received", "event_inbox", "received_at")
    create_index("idx_event_inbox_due", "event_inbox", "next_try_at", "consumer_group")
