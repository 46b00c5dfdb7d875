"""The target of each audit entry, and the indexes to find entries by it and by request."""

from sqlalchemy import Column, String

from safevideo_common.database.migrations.operations import add_column, create_index

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    add_column("audit_log", Column("target", String(191)))
    create_index("idx_audit_log_target", "audit_log", "target")
    create_index("idx_audit_log_request", "audit_log", "request_id")
