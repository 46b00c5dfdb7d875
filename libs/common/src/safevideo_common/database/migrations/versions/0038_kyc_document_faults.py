"""Faults of the files of KYC documents."""

from sqlalchemy import Column, String

from safevideo_common.database.migrations.operations import add_column, create_index

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    add_column("kyc_documents", Column("file_fault", String(16)))
    create_index("idx_kyc_documents_fault", "kyc_documents", "file_fault")
