"""The requests of one performer."""

from safevideo_common.database.migrations.operations import create_index

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    create_index("idx_kyc_performer", "kyc_requests", "performer_id")
