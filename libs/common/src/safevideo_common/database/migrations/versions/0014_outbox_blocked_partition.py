"""The outbox: which messages wait for a partition that takes no writes."""

from sqlalchemy import Column, String

from safevideo_common.database.migrations.operations import add_column, create_index

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    add_column("outbox", Column("blocked_partition", String(160)))
    create_index("idx_outbox_blocked", "outbox", "blocked_partition")
