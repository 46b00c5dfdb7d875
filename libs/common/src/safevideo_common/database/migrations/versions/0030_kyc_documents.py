"""Documents of KYC requests."""

from sqlalchemy import Column, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, UtcDateTime
from safevideo_common.database.migrations.operations import create_table

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    create_table(
        "kyc_documents",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("request_id", BigId, nullable=False),
        Column("slot", String(32), nullable=False),
        Column("document_type", String(32), nullable=False),
        Column("media_type", String(64), nullable=False),
        Column("sha256", String(64), nullable=False),
        Column("size", BigId, nullable=False),
        Column("file_name", String(128), nullable=False),
        Column("uploaded_at", UtcDateTime, nullable=False),
        UniqueConstraint("request_id", "slot", name="uq_kyc_documents_slot"),
        UniqueConstraint("file_name", name="uq_kyc_documents_file"),
    )
