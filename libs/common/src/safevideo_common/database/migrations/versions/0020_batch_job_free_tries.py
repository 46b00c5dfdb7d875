"""Tries of a job that cost nothing: they moved its cursor, or an outage ended them."""

from sqlalchemy import Column, Integer, text

from safevideo_common.database.migrations.operations import add_column

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    add_column("batch_jobs", Column("free_tries", Integer, nullable=False, server_default=text("0")))
