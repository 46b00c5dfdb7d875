"""All identifiers of a person on whom a hold is; those of older holds are the two that were kept."""

from alembic import op
from sqlalchemy import Column, String, text

from safevideo_common.database.dialect import BigId, ExternalIdText, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0045"
down_revision = "0044"

_COPY = """
INSERT INTO legal_hold_subjects (hold_id, kind, identifier, released_at)
SELECT legal_holds.id, '{kind}', {value}, legal_holds.released_at FROM legal_holds
WHERE legal_holds.{column} IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM legal_hold_subjects AS there WHERE there.hold_id = legal_holds.id AND there.kind = '{kind}'
)
"""


def upgrade() -> None:
    create_table(
        "legal_hold_subjects",
        Column("hold_id", BigId, primary_key=True, autoincrement=False),
        Column("kind", String(16), primary_key=True),
        Column("identifier", ExternalIdText, primary_key=True),
        Column("released_at", UtcDateTime),
    )
    create_index("idx_legal_hold_subjects_identifier", "legal_hold_subjects", "identifier", "kind")
    number = "CAST(user_id AS CHAR)"
    op.execute(text(_COPY.format(kind="user", value=number, column="user_id")))
    op.execute(text(_COPY.format(kind="performer", value="performer_id", column="performer_id")))
