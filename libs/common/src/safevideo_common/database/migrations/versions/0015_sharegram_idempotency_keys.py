"""Idempotency keys of our writes at Sharegram, stored before they are sent."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    create_table(
        "sharegram_idempotency_keys",
        Column("work", String(191), primary_key=True),
        Column("idempotency_key", String(64), nullable=False),
        Column("body_sha256", String(64), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
    )
    create_index("idx_sharegram_idempotency_keys_created", "sharegram_idempotency_keys", "created_at")
