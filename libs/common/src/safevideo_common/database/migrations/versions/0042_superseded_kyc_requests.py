"""The later request that took the place of a KYC request."""

from sqlalchemy import Column

from safevideo_common.database.dialect import BigId
from safevideo_common.database.migrations.operations import add_column

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    add_column("kyc_requests", Column("superseded_by", BigId))
