"""The identifiers by which an erased person would come back."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, ExternalIdText
from safevideo_common.database.migrations.operations import create_index, create_table

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    create_table(
        "erased_identifiers",
        Column("kind", String(16), primary_key=True),
        Column("identifier", ExternalIdText, primary_key=True),
        Column("order_id", BigId, nullable=False),
    )
    create_index("idx_erased_identifiers_order", "erased_identifiers", "order_id")
