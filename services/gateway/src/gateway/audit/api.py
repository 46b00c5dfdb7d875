"""`GET /api/v1/admin/audit`: who did what, when, from where."""

from aiohttp import web
from pydantic import Field

from gateway.http.query import PageQuery, StorableTimestamp, pagination, parse_query
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, AuditRecord
from safevideo_common.clock import rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.database.paging import Order
from safevideo_common.web.responses import success

# The audit log as it is shown.


class BrowseAudit:
    """Reads it. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: AuditFilter, *, page: int, limit: int, order: Order) -> tuple[list[AuditRecord], int]:
        """One page by time, counted from 1, and the number of all that match."""
        async with self._database.reading() as reading:
            return await audit_store.find(reading, wanted, page=page, limit=limit, order=order)


class AuditQuery(PageQuery):
    """Filters of the list; `from` and `to` are about `at`, the end excluded."""

    actor: str | None = Field(None, pattern=r"^[!-~]{1,128}$")
    action: str | None = Field(None, pattern=r"^[a-z_.]{1,64}$")
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> AuditFilter:
        """As the log wants it."""
        return AuditFilter(self.actor, self.action, self.from_, self.to)


class AuditApi:
    """The audit log."""

    def __init__(self, browse: BrowseAudit) -> None:
        self._browse = browse

    async def list(self, request: web.Request) -> web.Response:
        """One page, the newest first unless asked otherwise. Raises `ValidationFailed`."""
        query = parse_query(AuditQuery, request)
        records, total = await self._browse.page(query.filter(), page=query.page, limit=query.limit, order=query.order)
        extra = {"pagination": pagination(query.page, query.limit, total)}
        return success([audit_json(record) for record in records], extra=extra)


def audit_json(record: AuditRecord) -> dict[str, object]:
    """An entry as the API shows it."""
    entry = record.entry
    return {
        "id": record.row_id,
        "at": rfc3339(entry.at),
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "remote": entry.remote,
        "requestId": entry.request_id,
        "details": entry.details,
    }
