"""Work that takes long or calls Sharegram, a row each."""

from sqlalchemy import Column, Integer, String, Text, UniqueConstraint, text

from safevideo_common.database.dialect import BigId, JsonDocument, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    create_table(
        "batch_jobs",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("job_type", String(64), nullable=False),
        Column("parameters", JsonDocument, nullable=False),
        Column("priority", String(16), nullable=False),
        Column("status", String(16), nullable=False),
        Column("error", Text),
        Column("created_at", UtcDateTime, nullable=False),
        Column("runner", String(64)),
        Column("unique_key", String(191)),
        Column("active_key", String(191)),
        Column("queued_at", UtcDateTime, nullable=False),
        Column("next_try_at", UtcDateTime, nullable=False),
        Column("tries", Integer, nullable=False, server_default=text("0")),
        Column("max_tries", Integer, nullable=False),
        Column("lease_token", String(32)),
        Column("lease_until", UtcDateTime),
        Column("heartbeat_at", UtcDateTime),
        Column("worker", String(128)),
        Column("progress", Integer, nullable=False, server_default=text("0")),
        Column("total_items", BigId),
        Column("processed_items", BigId, nullable=False, server_default=text("0")),
        Column("cursor", JsonDocument),
        Column("result", JsonDocument),
        Column("cancel_requested_at", UtcDateTime),
        Column("cancel_reason", String(255)),
        Column("started_at", UtcDateTime),
        Column("finished_at", UtcDateTime),
        Column("created_by", String(128)),
        Column("request_id", String(128)),
        UniqueConstraint("active_key", name="uq_batch_jobs_active_key"),
    )
    create_index("idx_batch_jobs_due", "batch_jobs", "status", "job_type", "priority", "next_try_at", "id", "runner")
    create_index("idx_batch_jobs_type", "batch_jobs", "job_type", "created_at")
