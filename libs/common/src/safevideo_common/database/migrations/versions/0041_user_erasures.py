"""The time at which an account was erased."""

from sqlalchemy import Column

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import add_column

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    add_column("users", Column("erased_at", UtcDateTime))
