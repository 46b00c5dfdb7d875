"""The outbox: what is to be published, written in the transaction that it tells of."""

from sqlalchemy import Column, LargeBinary, String

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    create_table(
        "outbox",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("topic", String(128), nullable=False),
        Column("message_key", LargeBinary(1 << 15), nullable=False),
        Column("headers", LargeBinary(1 << 20), nullable=False),
        Column("payload", LargeBinary(1 << 20), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
    )
