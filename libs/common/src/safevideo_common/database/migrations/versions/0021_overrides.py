"""Decisions of operators: fallback mode, and circuit breakers that they opened, closed or reset."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    create_table(
        "overrides",
        Column("name", String(64), primary_key=True),
        Column("action", String(16), nullable=False),
        Column("started_at", UtcDateTime, nullable=False),
        Column("ends_at", UtcDateTime),
        Column("changed_at", UtcDateTime, nullable=False),
        Column("actor", String(128), nullable=False),
        Column("reason", String(255), nullable=False),
    )
