"""The span that enqueued a job."""

from sqlalchemy import Column, String

from safevideo_common.database.migrations.operations import add_column

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    add_column("batch_jobs", Column("traceparent", String(55)))
