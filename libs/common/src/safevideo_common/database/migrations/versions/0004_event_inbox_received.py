"""What came in a range of time."""

from safevideo_common.database.migrations.operations import create_index

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_index("idx_event_inbox_received", "event_inbox", "received_at")
