"""The sequence of the last published change of each performer."""

from sqlalchemy import Column, text

from safevideo_common.database.dialect import BigId
from safevideo_common.database.migrations.operations import add_column

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    add_column("performers", Column("change_sequence", BigId, nullable=False, server_default=text("0")))
