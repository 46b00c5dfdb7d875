"""The version of the result that a decision on a KYC request was based on."""

from sqlalchemy import Column

from safevideo_common.database.dialect import BigId
from safevideo_common.database.migrations.operations import add_column

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    add_column("kyc_requests", Column("decision_version", BigId))
