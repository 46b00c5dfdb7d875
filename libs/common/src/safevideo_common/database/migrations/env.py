"""Alembic runs this file; the connection and the callback come from `database/migrate.py`."""

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script

attributes = context.config.attributes


def report_progress(ctx: MigrationContext, step: MigrationInfo, heads: object, run_args: object) -> None:  # noqa: ARG001
    """Report one migration. Alembic calls this after it has written the number, before the commit."""
    if isinstance(step.up_revision, Script):
        attributes["report"](step.up_revision.revision, step.up_revision.doc)


context.configure(connection=attributes["connection"], transaction_per_migration=True, on_version_apply=report_progress)
with context.begin_transaction():
    context.run_migrations()
