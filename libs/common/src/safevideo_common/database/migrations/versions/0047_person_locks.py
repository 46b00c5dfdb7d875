"""Rows to lock for persons of whom there is no account, or not yet."""

from sqlalchemy import Column, Integer

from safevideo_common.database.migrations.operations import create_table

revision = "0047"
down_revision = "0046"


def upgrade() -> None:
    create_table("person_locks", Column("bucket", Integer, primary_key=True, autoincrement=False))
