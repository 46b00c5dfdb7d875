"""What is due, found without looking at what else waits."""

from safevideo_common.database.migrations.operations import create_index

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    create_index("idx_event_inbox_due", "event_inbox", "next_try_at", "consumer_group")
