"""The digest of each event's body; and once more, unique, for events that are identified by their body."""

from sqlalchemy import Column, String

from safevideo_common.database.migrations.operations import add_column, create_index

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    add_column("event_inbox", Column("body_sha256", String(64)))
    add_column("event_inbox", Column("dedup_sha256", String(64)))
    create_index("uq_event_inbox_body", "event_inbox", "dedup_sha256", "consumer_group", unique=True)
