"""The watermark of incremental syncs."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    create_table(
        "sync_watermarks",
        Column("name", String(64), primary_key=True),
        Column("position", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
    )
