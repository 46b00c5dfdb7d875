"""Files of documents that are deleted after the commit that removed their rows."""

from sqlalchemy import Column, Integer, String, text

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0048"
down_revision = "0047"


def upgrade() -> None:
    create_table(
        "document_deletions",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("file_name", String(128), nullable=False),
        Column("request_id", BigId),
        Column("reason", String(16), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("due_at", UtcDateTime, nullable=False),
        Column("next_try_at", UtcDateTime, nullable=False),
        Column("tries", Integer, nullable=False, server_default=text("0")),
    )
    create_index("idx_document_deletions_next_try", "document_deletions", "next_try_at")
    create_index("idx_document_deletions_due", "document_deletions", "due_at")
    create_index("idx_document_deletions_request", "document_deletions", "request_id")
