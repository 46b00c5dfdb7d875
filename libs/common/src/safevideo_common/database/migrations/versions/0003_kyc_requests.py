"""Requests to verify a performer's identity."""

from sqlalchemy import Column, Double, String, UniqueConstraint, text

from safevideo_common.database.dialect import BigId, ExternalIdText, JsonDocument, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    create_table(
        "kyc_requests",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("performer_id", ExternalIdText, nullable=False),
        Column("verification_id", ExternalIdText),
        Column("status", String(16), nullable=False),
        Column("risk_score", Double),
        Column("result", JsonDocument),
        Column("result_version", BigId),
        Column("result_at", UtcDateTime),
        Column("result_arrival", BigId, nullable=False, server_default=text("0")),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        UniqueConstraint("verification_id", name="uq_kyc_requests_verification"),
    )
    create_index("idx_kyc_status", "kyc_requests", "status", "created_at")
    create_index("idx_kyc_performer", "kyc_requests", "performer_id")
