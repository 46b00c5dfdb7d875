"""`GET /api/v1/admin/audit`: the audit log."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from pydantic import Field

from gateway.http.endpoint import ADMIN_PATH, READERS, Endpoint, Returns, Shape
from gateway.http.query import KeyedPageQuery, StorableTimestamp, parse_query
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditDocument, AuditFilter, audit_document
from safevideo_common.database.engine import Database


class AuditQuery(KeyedPageQuery):
    """The filter of the list. `from` and `to` are a range of `at`, without its end."""

    actor: str | None = Field(None, pattern=r"^[!-~]{1,128}$")
    action: str | None = Field(None, pattern=r"^[a-z_.]{1,64}$")
    target: str | None = Field(None, pattern=r"^[!-~]{1,191}$")
    request_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_.:-]{1,128}$")
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> AuditFilter:
        """Return the filter of the store."""
        return AuditFilter(self.actor, self.action, self.target, self.request_id, self.from_, self.to)


_RETRIED: Final[AuditDocument] = {
    "id": 9,
    "at": "2026-11-24T20:58:25.123Z",
    "actor": "operations",
    "role": "admin",
    "action": "jobs.retried",
    "target": "job:41",
    "remote": "192.0.2.10",
    "requestId": "0f8fad5bd9cb469fa16570867728950e",
    "details": {"jobId": 41, "jobType": "event_replay", "was": "failed", "now": "queued"},
}


class AuditApi:
    """The endpoint of the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declaration."""
        page = Returns(AuditDocument, _RETRIED, shape=Shape.PAGE)
        return [Endpoint("GET", f"{ADMIN_PATH}/audit", self.list, READERS, page, query=AuditQuery)]

    async def list(self, request: web.Request) -> web.Response:
        """Return one page of the audit log, by default the newest first. Raises `ValidationFailed`."""
        query = parse_query(AuditQuery, request)
        async with self._database.read_connection() as connection:
            records, total = await audit_store.find(
                connection, query.filter(), page=query.page, limit=query.limit, order=query.order, after=query.after
            )
        return query.response(map(audit_document, records), total)
