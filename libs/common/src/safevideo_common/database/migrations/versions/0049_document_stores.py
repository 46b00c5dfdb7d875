"""The mark of the store of documents that belongs to this database."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0049"
down_revision = "0048"


def upgrade() -> None:
    create_table(
        "document_stores",
        Column("id", BigId, primary_key=True, autoincrement=False),
        Column("mark", String(32), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("confirmed_at", UtcDateTime),
        Column("refusal", String(32)),
    )
