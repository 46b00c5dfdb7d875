"""Requests that await someone, oldest first."""

from safevideo_common.database.migrations.operations import create_index

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    create_index("idx_kyc_status", "kyc_requests", "status", "created_at")
