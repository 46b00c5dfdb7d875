"""The tries of one job."""

from safevideo_common.database.migrations.operations import create_index

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    create_index("idx_batch_job_tries_job", "batch_job_tries", "job_id")
