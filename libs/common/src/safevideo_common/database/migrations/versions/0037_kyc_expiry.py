"""KYC requests: when their next warning or their end is due, and why a person must look at one again."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import add_column, create_index

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    add_column("kyc_requests", Column("expiry_due_at", UtcDateTime))
    add_column("kyc_requests", Column("review_reason", String(32)))
    create_index("idx_kyc_expiry", "kyc_requests", "status", "expiry_due_at")
    create_index("idx_kyc_review", "kyc_requests", "review_reason")
