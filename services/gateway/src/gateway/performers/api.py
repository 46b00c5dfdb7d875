"""`/api/v1/performers`: the list; one performer, its sync with Sharegram, and for operators its field history."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict

import msgspec
from aiohttp import web
from pydantic import BeforeValidator, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import Body, parse_body
from gateway.http.endpoint import ADMIN_PATH, ADMINS, ANY_ROLE, MODERATORS, READERS, Endpoint, Returns, Shape
from gateway.http.idempotency import keep_response
from gateway.http.query import (
    CursorQuery,
    QueryFlag,
    StorableTimestamp,
    decode_cursor,
    encode_cursor,
    parse_query,
)
from gateway.http.visibility import is_reviewer, visible_members
from gateway.performers.service import PerformerService, PerformerView, view_of, written_view
from safevideo_common.auth.principal import PRINCIPAL, Principal
from safevideo_common.clock import TimestampText
from safevideo_common.database.engine import Database
from safevideo_common.database.performers import PerformerFilter, SortColumn
from safevideo_common.domain.performer_status import AWAITING_APPROVAL, PerformerStatus
from safevideo_common.errors import (
    CircuitBreakerOpen,
    IntegrationNotConfigured,
    PerformerNotFound,
    SyncRateLimited,
    ValidationFailed,
)
from safevideo_common.inbox.performer_history import (
    PerformerHistoryDocument,
    StatusDecisionDocument,
    performer_history,
)
from safevideo_common.performer_sync.one import PerformerSync
from safevideo_common.sharegram.errors import (
    CredentialsRejected,
    InvalidResponse,
    SharegramRejected,
)
from safevideo_common.sharegram.operations import SharegramCaller
from safevideo_common.web.correlation import CORRELATION
from safevideo_common.web.responses import success

_ROW_ID: Final = re.compile(r"[0-9]{1,18}")
_SHAREGRAM_ID: Final = re.compile(r"sg_[!-~]{1,125}")


def _statuses(value: object) -> object:
    if isinstance(value, str) and not set(value.split(",")) <= set(PerformerStatus):
        raise ValueError(f"must be one or several, with commas, of {', '.join(PerformerStatus)}")
    return value


_Statuses = Annotated[str, BeforeValidator(_statuses), Field(examples=["active", "pending,under_review"])]
_SORT: Final[dict[str, SortColumn]] = {"createdAt": "created_at", "updatedAt": "updated_at"}
PerformerId = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,18}|sg_[!-~]{1,125})$")]


class PerformerDocument(TypedDict):
    """A performer. `performerId` is Sharegram's id; `version` is the highest of its versions, null if it sends none.

    `status` is that of the decision while it stands, else `sharegramStatus`. Moderators and admins see the decision.
    """

    id: int
    performerId: str
    username: str | None
    displayName: str | None
    email: NotRequired[str | None]
    profileImage: str | None
    bio: str | None
    verified: bool
    status: str
    sharegramStatus: str
    decision: NotRequired[StatusDecisionDocument | None]
    version: int | None
    createdAt: TimestampText
    updatedAt: TimestampText
    deletedAt: TimestampText | None


class SyncedDocument(TypedDict):
    """The performer after its sync. `updated` is true if something has changed."""

    updated: bool
    performer: PerformerDocument


class PerformerPageQuery(CursorQuery):
    """The page: by its number, or behind the `nextCursor` of the page before."""

    sort: Literal["createdAt", "updatedAt"] = "createdAt"


class PendingApprovalQuery(PerformerPageQuery):
    """The page of performers whose status is `pending` or `under_review`, the oldest first."""

    order: Literal["asc", "desc"] = "asc"


class PerformerQuery(PerformerPageQuery):
    """The filter of the list. `status` may be several with commas. Deleted performers are left out by default."""

    status: _Statuses | None = None
    verified: QueryFlag | None = None
    username: str | None = Field(None, min_length=1, max_length=255)
    updated_since: StorableTimestamp | None = None
    include_deleted: QueryFlag = False

    def filter(self) -> PerformerFilter:
        """Return the filter of the store."""
        statuses = tuple(dict.fromkeys(self.status.split(","))) if self.status else ()
        return PerformerFilter(statuses, self.verified, self.username, self.updated_since, self.include_deleted)


class SyncBody(Body):
    """`force` syncs also within five minutes of the last sync."""

    force: bool = False


DECISION: Final[StatusDecisionDocument] = {
    "status": "active",
    "decidedAt": "2026-11-24T20:58:25.123Z",
    "decidedBy": "user:7",
    "until": None,
    "reason": None,
    "notes": "The profile is complete.",
    "stands": True,
}
_PERFORMER: Final[PerformerDocument] = {
    "id": 12,
    "performerId": "sg_ada",
    "username": "ada",
    "displayName": "Ada",
    "email": "ada@example.com",
    "profileImage": None,
    "bio": None,
    "verified": True,
    "status": "active",
    "sharegramStatus": "pending",
    "decision": DECISION,
    "version": 9,
    "createdAt": "2026-11-24T20:58:25.123Z",
    "updatedAt": "2026-11-24T20:58:25.123Z",
    "deletedAt": None,
}


_HISTORY: Final[PerformerHistoryDocument] = {
    "id": 12,
    "performerId": "sg_ada",
    "updatedAt": "2026-11-24T20:58:25.123Z",
    "status": "active",
    "decision": DECISION,
    "fields": [
        {
            "field": "displayName",
            "value": "Ada",
            "version": 9,
            "occurredAt": "2026-11-24T20:58:25.000Z",
            "eventId": "evt_1009",
        }
    ],
    "unapplied": [],
}
_SYNC_ERRORS: Final = (
    *(PerformerNotFound, SyncRateLimited, SharegramRejected, InvalidResponse),
    *(CredentialsRejected, CircuitBreakerOpen, IntegrationNotConfigured),
)


class PerformersApi:
    """The endpoints of performers."""

    def __init__(self, performers: PerformerService, sync: PerformerSync, database: Database) -> None:
        self._performers = performers
        self._sync = sync
        self._database = database

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        one, ids = Returns(PerformerDocument, _PERFORMER), {"id": PerformerId}
        path, history = "/api/v1/performers/{id}", f"{ADMIN_PATH}/performers/{{id}}/history"
        document, errors = Returns(PerformerHistoryDocument, _HISTORY), (PerformerNotFound,)
        synced = Returns(SyncedDocument, {"updated": True, "performer": _PERFORMER})
        page = Returns(PerformerDocument, _PERFORMER, shape=Shape.PAGE)
        base = "/api/v1/performers"
        return [
            Endpoint("GET", base, self.list, ANY_ROLE, page, query=PerformerQuery),
            Endpoint(
                "GET", f"{base}/pending-approval", self.pending_approval, MODERATORS, page, query=PendingApprovalQuery
            ),
            Endpoint("GET", path, self.show, ANY_ROLE, one, errors, path_types=ids),
            Endpoint("GET", history, self.history, READERS, document, errors, path_types=ids),
            Endpoint(
                *("POST", f"{path}/sync", self.sync, ADMINS, synced),
                errors=_SYNC_ERRORS, takes_idempotency_key=True, body=SyncBody, body_example={"force": True},
                path_types=ids,
            ),
        ]  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Return one page of performers, by default the newest first. Only moderators and admins see e-mail addresses.

        Raises `ValidationFailed`.
        """
        query = parse_query(PerformerQuery, request)
        return await self._page(request, query, query.filter())

    async def pending_approval(self, request: web.Request) -> web.Response:
        """Return one page of the performers who wait for an approval, the oldest first. Raises `ValidationFailed`."""
        query = parse_query(PendingApprovalQuery, request)
        return await self._page(request, query, PerformerFilter(AWAITING_APPROVAL))

    async def _page(self, request: web.Request, query: PerformerPageQuery, matching: PerformerFilter) -> web.Response:
        after = decode_cursor(query.cursor, query.sort, query.order) if query.cursor else None
        found, has_more, total = await self._performers.find(
            matching,
            sort=_SORT[query.sort],
            order=query.order,
            limit=query.limit,
            offset=0 if after else (query.page - 1) * query.limit,
            after=after,
        )
        next_cursor = None
        if has_more:
            last = found[-1]
            next_cursor = encode_cursor(query.sort, query.order, getattr(last, _SORT[query.sort]), last.id)
        documents = [visible_to(request[PRINCIPAL], view_of(each)) for each in found]
        return query.cursor_response(documents, total, next_cursor)

    async def show(self, request: web.Request) -> web.Response:
        """Return one performer, by our id or by Sharegram's. Only moderators and admins see the e-mail address.

        Raises `PerformerNotFound`, `ValidationFailed`.
        """
        performer_id = parse_performer_id(request)
        if isinstance(performer_id, int):
            view = await self._performers.by_id(performer_id)
        else:
            view = await self._performers.by_sharegram_id(performer_id)
        return success(visible_to(request[PRINCIPAL], view))

    async def sync(self, request: web.Request) -> web.Response:
        """Fetch the performer from Sharegram and return it. One that is unknown here is created.

        Without `force`, it can be repeated after five minutes. Raises `SyncRateLimited`, `PerformerNotFound`.
        """
        performer_id = parse_performer_id(request)
        body = await parse_body(SyncBody, request) if request.can_read_body else SyncBody()
        if isinstance(performer_id, int):
            performer_id = await self._performers.sharegram_id_of(performer_id)
        caller = SharegramCaller.api(request[CORRELATION].request_id)
        document: dict[str, object] = {}

        async def keep(tx: AsyncConnection, updated: bool) -> None:
            view = await written_view(tx, performer_id)
            document.update(updated=updated, performer=visible_to(request[PRINCIPAL], view))
            await keep_response(request, tx, 200, document)

        await self._sync.sync(performer_id, caller, force=body.force, also=keep)
        return success(document)

    async def history(self, request: web.Request) -> web.Response:
        """Return each field of a performer with its last writer, and the newest events that lost or are not applied.

        Only moderators and admins see the e-mail address and the decision. Raises `PerformerNotFound`,
        `ValidationFailed`.
        """
        performer_id = str(parse_performer_id(request))
        role = request[PRINCIPAL].role
        history = await performer_history(self._database, performer_id, with_email=is_reviewer(role))
        return success(visible_members(role, history))


def parse_performer_id(request: web.Request) -> int | str:
    """Return our id of a performer as a number, Sharegram's as a text. Raises `ValidationFailed`."""
    text = request.match_info["id"]
    if _ROW_ID.fullmatch(text):
        return int(text)
    if _SHAREGRAM_ID.fullmatch(text):
        return text
    raise ValidationFailed("Invalid id.", details={"id": "must be a whole number or begin with sg_"})


def visible_to(principal: Principal, view: PerformerView) -> dict[str, Any]:
    """Return the fields that this caller may see."""
    return visible_members(principal.role, msgspec.to_builtins(view))
