"""KYC requests as they are submitted, their documents, and the steps of their verification."""

from sqlalchemy import Column, Date, LargeBinary, String, Text, UniqueConstraint

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import add_column, create_table

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    add_column("kyc_requests", Column("decision_reason", String(32)))
    add_column("kyc_requests", Column("decision_notes", Text))
    add_column("kyc_requests", Column("decided_by", String(128)))
    add_column("kyc_requests", Column("reopened_at", UtcDateTime))
    add_column("kyc_requests", Column("applicant", LargeBinary(8192)))
    add_column("kyc_requests", Column("document_type", String(32)))
    add_column("kyc_requests", Column("document_expires_on", Date))
    add_column("kyc_requests", Column("expires_at", UtcDateTime))
    create_table(
        "kyc_documents",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("request_id", BigId, nullable=False),
        Column("slot", String(32), nullable=False),
        Column("document_type", String(32), nullable=False),
        Column("media_type", String(64), nullable=False),
        Column("sha256", String(64), nullable=False),
        Column("size", BigId, nullable=False),
        Column("file_name", String(128), nullable=False),
        Column("uploaded_at", UtcDateTime, nullable=False),
        UniqueConstraint("request_id", "slot", name="uq_kyc_documents_slot"),
        UniqueConstraint("file_name", name="uq_kyc_documents_file"),
    )
    create_table(
        "kyc_verification_steps",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("request_id", BigId, nullable=False),
        Column("step_type", String(32), nullable=False),
        Column("status", String(16), nullable=False),
        Column("completed_at", UtcDateTime),
        UniqueConstraint("request_id", "step_type", name="uq_kyc_verification_steps"),
    )
