"""Accounts that are merged have their own values again, and a merge says who has taken it back."""

from sqlalchemy import Column, String

from safevideo_common.database.migrations.conversions import take_back_merges
from safevideo_common.database.migrations.operations import add_column, convert_rows

revision = "0051"
down_revision = "0050"


def upgrade() -> None:
    add_column("user_merges", Column("unmerged_by", String(128)))
    convert_rows(take_back_merges)
