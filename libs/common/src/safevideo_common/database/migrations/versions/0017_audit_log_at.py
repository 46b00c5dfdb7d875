"""The audit log by time."""

from safevideo_common.database.migrations.operations import create_index

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    create_index("idx_audit_log_at", "audit_log", "at")
