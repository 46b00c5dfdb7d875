"""Steps of the verification of a KYC request."""

from sqlalchemy import Column, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    create_table(
        "kyc_verification_steps",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("request_id", BigId, nullable=False),
        Column("step_type", String(32), nullable=False),
        Column("status", String(16), nullable=False),
        Column("completed_at", UtcDateTime),
        UniqueConstraint("request_id", "step_type", name="uq_kyc_verification_steps"),
    )
