"""The audit log as it is shown."""

from safevideo_common.database import audit_log
from safevideo_common.database.audit_log import AuditFilter, AuditRecord, Order
from safevideo_common.database.engine import Database


class BrowseAudit:
    """Reads it. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: AuditFilter, *, page: int, limit: int, order: Order
    ) -> tuple[list[AuditRecord], int]:
        """One page by time, counted from 1, and the number of all that match."""
        async with self._database.reading() as reading:
            return await audit_log.find(reading, wanted, page=page, limit=limit, order=order)
