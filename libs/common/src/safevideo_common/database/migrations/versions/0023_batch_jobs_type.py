"""The jobs of a type in the order of time, as operators and the API ask for them."""

from safevideo_common.database.migrations.operations import create_index

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    create_index("idx_batch_jobs_type", "batch_jobs", "job_type", "created_at")
