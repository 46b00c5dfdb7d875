"""What waits, performer by performer in the order of arrival; what is dead."""

from safevideo_common.database.migrations.operations import create_index

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    create_index("idx_event_inbox_status", "event_inbox", "status", "consumer_group", "performer_id")
