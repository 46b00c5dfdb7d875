"""The sequence of the last published change of each performer and KYC request."""

from sqlalchemy import Column, text

from safevideo_common.database.dialect import BigId
from safevideo_common.database.migrations.operations import add_column

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    add_column("performers", Column("change_sequence", BigId, nullable=False, server_default=text("0")))
    add_column("kyc_requests", Column("change_sequence", BigId, nullable=False, server_default=text("0")))
