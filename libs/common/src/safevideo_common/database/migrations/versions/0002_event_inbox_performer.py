"""The history of one performer."""

from safevideo_common.database.migrations.operations import create_index

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_index("idx_event_inbox_performer", "event_inbox", "performer_id")
