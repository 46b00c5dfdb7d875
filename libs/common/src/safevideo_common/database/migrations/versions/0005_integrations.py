"""The partners that we are connected to."""

from sqlalchemy import Column, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, Boolean, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    create_table(
        "integrations",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("provider", String(64), nullable=False),
        Column("is_enabled", Boolean, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        UniqueConstraint("provider", name="uq_integrations_provider"),
    )
