"""Decisions of persons on KYC requests, beside the provider's results."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import add_column

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    add_column("kyc_requests", Column("decision_status", String(16)))
    add_column("kyc_requests", Column("decision_at", UtcDateTime))
    add_column("kyc_requests", Column("decision_basis", String(16)))
