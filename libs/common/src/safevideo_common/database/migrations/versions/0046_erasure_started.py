"""The time at which the erasure of a person began: from then on no hold is accepted."""

from alembic import op
from sqlalchemy import Column, text

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import add_column

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    add_column("erasure_orders", Column("started_at", UtcDateTime))
    op.execute(text("UPDATE erasure_orders SET started_at = applied_at WHERE started_at IS NULL"))
