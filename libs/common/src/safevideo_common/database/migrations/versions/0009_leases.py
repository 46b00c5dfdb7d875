"""Leases: what one process at a time may do."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    create_table(
        "leases",
        Column("name", String(64), primary_key=True),
        Column("holder", String(64), nullable=False),
        Column("expires_at", UtcDateTime, nullable=False),
    )
