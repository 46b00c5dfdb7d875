"""`GET /api/v1/admin/audit`: the audit log."""

from aiohttp import web
from pydantic import Field

from gateway.http.query import PageQuery, StorableTimestamp, parse_query
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, AuditRecord
from safevideo_common.clock import rfc3339
from safevideo_common.database.engine import Database


class AuditQuery(PageQuery):
    """The filter of the list. `from` and `to` are a range of `at`, without its end."""

    actor: str | None = Field(None, pattern=r"^[!-~]{1,128}$")
    action: str | None = Field(None, pattern=r"^[a-z_.]{1,64}$")
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> AuditFilter:
        """Return the filter of the store."""
        return AuditFilter(self.actor, self.action, self.from_, self.to)


class AuditApi:
    """The endpoint of the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, request: web.Request) -> web.Response:
        """Return one page, by default the newest first. Raises `ValidationFailed`."""
        query = parse_query(AuditQuery, request)
        async with self._database.read_connection() as connection:
            records, total = await audit_store.find(
                connection, query.filter(), page=query.page, limit=query.limit, order=query.order
            )
        return query.response(map(audit_document, records), total)


def audit_document(record: AuditRecord) -> dict[str, object]:
    """Return the JSON document of an entry."""
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
