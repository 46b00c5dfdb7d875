"""The attempts of jobs, and how each ended."""

from sqlalchemy import Column, Integer, String, Text

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    create_table(
        "batch_job_tries",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("job_id", BigId, nullable=False),
        Column("number", Integer, nullable=False),
        Column("worker", String(128)),
        Column("started_at", UtcDateTime),
        Column("ended_at", UtcDateTime, nullable=False),
        Column("outcome", String(16), nullable=False),
        Column("error", Text),
    )
    create_index("idx_batch_job_tries_job", "batch_job_tries", "job_id")
