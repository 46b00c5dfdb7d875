"""Work that takes long or calls Sharegram, a row each."""

from sqlalchemy import Column, Integer, String, Text, UniqueConstraint, text

from safevideo_common.database.dialect import BigId, JsonDocument, UtcMoment
from safevideo_common.database.migrations.operations import create_table

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    create_table(
        "batch_jobs",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("job_type", String(64), nullable=False),
        Column("parameters", JsonDocument, nullable=False),
        Column("priority", String(16), nullable=False),
        Column("status", String(16), nullable=False),
        Column("error", Text),
        Column("created_at", UtcMoment, nullable=False),
        Column("runner", String(64)),
        Column("unique_key", String(191)),
        Column("active_key", String(191)),
        Column("queued_at", UtcMoment, nullable=False),
        Column("next_try_at", UtcMoment, nullable=False),
        Column("tries", Integer, nullable=False, server_default=text("0")),
        Column("max_tries", Integer, nullable=False),
        Column("lease_token", String(32)),
        Column("lease_until", UtcMoment),
        Column("heartbeat_at", UtcMoment),
        Column("worker", String(128)),
        Column("progress", Integer, nullable=False, server_default=text("0")),
        Column("total_items", BigId),
        Column("processed_items", BigId, nullable=False, server_default=text("0")),
        Column("cursor", JsonDocument),
        Column("result", JsonDocument),
        Column("cancel_requested_at", UtcMoment),
        Column("cancel_reason", String(255)),
        Column("started_at", UtcMoment),
        Column("finished_at", UtcMoment),
        Column("created_by", String(128)),
        Column("request_id", String(128)),
        UniqueConstraint("active_key", name="uq_batch_jobs_active_key"),
    )
