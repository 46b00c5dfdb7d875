"""The identities of an account at providers."""

from sqlalchemy import Column, String, UniqueConstraint

from safevideo_common.database.dialect import BigId, SubjectText, UtcDateTime
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    create_table(
        "user_identities",
        Column("id", BigId, primary_key=True, autoincrement=True),
        Column("user_id", BigId, nullable=False),
        Column("provider", String(64), nullable=False),
        Column("issuer", SubjectText, nullable=False),
        Column("subject", SubjectText, nullable=False),
        Column("digest", String(64), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        UniqueConstraint("digest", name="uq_user_identities_digest"),
    )
    create_index("idx_user_identities_user", "user_identities", "user_id")
