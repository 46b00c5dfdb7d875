"""Accounts as an import or a hand has left them."""

from sqlalchemy import update

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import users


async def set_columns(database: Database, user_id: int, **values: object) -> None:
    """Write columns of an account, without a lock and without an entry in the audit log."""
    async with database.transaction() as tx:
        await tx.execute(update(users).where(users.c.id == user_id).values(values))
