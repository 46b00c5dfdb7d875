"""How much of the quarantine each address has, its oldest first."""

from safevideo_common.database.migrations.operations import create_index

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    create_index(
        "idx_rejected_webhooks_share", "rejected_webhooks", "remote", "received_at", "body_bytes", "released_at"
    )
