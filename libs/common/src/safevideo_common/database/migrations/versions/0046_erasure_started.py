"""The time at which the erasure of a person began: from then on no hold is accepted."""

from sqlalchemy import Column

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.conversions import start_applied_orders
from safevideo_common.database.migrations.operations import add_column, convert_rows

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    add_column("erasure_orders", Column("started_at", UtcDateTime))
    convert_rows(start_applied_orders)
