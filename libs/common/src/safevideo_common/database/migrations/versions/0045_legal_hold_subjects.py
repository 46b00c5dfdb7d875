"""All identifiers of a person on whom a hold is; those of older holds are the two that were kept."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, ExternalIdText, UtcDateTime
from safevideo_common.database.migrations.conversions import copy_hold_subjects
from safevideo_common.database.migrations.operations import convert_rows, create_index, create_table

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    create_table(
        "legal_hold_subjects",
        Column("hold_id", BigId, primary_key=True, autoincrement=False),
        Column("kind", String(16), primary_key=True),
        Column("identifier", ExternalIdText, primary_key=True),
        Column("released_at", UtcDateTime),
    )
    create_index("idx_legal_hold_subjects_identifier", "legal_hold_subjects", "identifier", "kind")
    convert_rows(copy_hold_subjects)
