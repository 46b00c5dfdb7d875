"""Alembic runs this file; the connection and the listener are handed in by `database/migrate.py`."""

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script

attributes = context.config.attributes


def tell(ctx: MigrationContext, step: MigrationInfo, heads: object, run_args: object) -> None:  # noqa: ARG001
    """Pass on what has been run; Alembic calls this just after it noted the number, before a commit."""
    if isinstance(step.up_revision, Script):
        attributes["told"](step.up_revision.revision, step.up_revision.doc)


context.configure(connection=attributes["connection"], transaction_per_migration=True, on_version_apply=tell)
with context.begin_transaction():
    context.run_migrations()
