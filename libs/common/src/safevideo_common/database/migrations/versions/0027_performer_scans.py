"""The rows of a scan of performers: seen at Sharegram, or missing there."""

from sqlalchemy import Column

from safevideo_common.database.dialect import BigId, Boolean, ExternalIdText, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    create_table(
        "performer_scan_rows",
        Column("job_id", BigId, primary_key=True, autoincrement=False),
        Column("sharegram_id", ExternalIdText, primary_key=True),
        Column("is_missing", Boolean, nullable=False),
        Column("scan_started_at", UtcDateTime, nullable=False),
    )
