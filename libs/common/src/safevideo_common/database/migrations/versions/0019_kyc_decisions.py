"""KYC requests: decisions of persons, beside the provider's results, and the sequence of the last published change."""

from sqlalchemy import Column, String, text

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import add_column

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    add_column("kyc_requests", Column("change_sequence", BigId, nullable=False, server_default=text("0")))
    add_column("kyc_requests", Column("decision_status", String(16)))
    add_column("kyc_requests", Column("decision_at", UtcDateTime))
    add_column("kyc_requests", Column("decision_basis", String(16)))
