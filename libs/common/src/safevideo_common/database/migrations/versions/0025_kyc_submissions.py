"""KYC requests as they are submitted and decided."""

from sqlalchemy import Column, Date, LargeBinary, String, Text

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import add_column

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
