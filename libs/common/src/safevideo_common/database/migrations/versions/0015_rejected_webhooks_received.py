"""The quarantine in order of reception."""

from safevideo_common.database.migrations.operations import create_index

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    create_index("idx_rejected_webhooks_received", "rejected_webhooks", "received_at")
