"""What may run, found by type and priority without looking at what else is there."""

from safevideo_common.database.migrations.operations import create_index

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    create_index("idx_batch_jobs_due", "batch_jobs", "status", "job_type", "priority", "next_try_at", "id", "runner")
