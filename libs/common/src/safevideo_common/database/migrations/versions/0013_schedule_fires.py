"""The last fire time of each periodic job."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    create_table(
        "schedule_fires",
        Column("name", String(64), primary_key=True),
        Column("slot", UtcDateTime, nullable=False),
    )
