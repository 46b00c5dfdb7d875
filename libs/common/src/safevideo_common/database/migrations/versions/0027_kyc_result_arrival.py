"""Where in the log the verdict of a KYC request stood: it breaks a tie of two with the same version or time."""

from sqlalchemy import Column, text

from safevideo_common.database.dialect import BigId
from safevideo_common.database.migrations.operations import add_column

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    add_column("kyc_requests", Column("result_arrival", BigId, nullable=False, server_default=text("0")))
