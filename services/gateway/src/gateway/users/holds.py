"""`/api/v1/admin/users/…/hold`: legal holds, which stop retention and erasure (contract, §6)."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, READERS, Endpoint, Returns, Shape
from gateway.http.idempotency import keep_response
from gateway.http.query import PageQuery, parse_query, row_id_of
from gateway.http.sentence import Sentence
from safevideo_common.database.engine import Database
from safevideo_common.errors import InvalidStatusTransition, UserNotFound
from safevideo_common.privacy.holds import Hold, HoldDocument, LegalHolds, find_active, hold_document
from safevideo_common.web.responses import success


class HoldBody(Body):
    """The reason, such as the number of a case. No personal data: it is in the audit log."""

    reason: Sentence


_HOLD: Final[HoldDocument] = {
    "holdId": 4,
    "userId": 123,
    "performerId": "sg_ada",
    "reason": "case 2026-114",
    "placedAt": "2026-11-24T20:58:25.123Z",
    "placedBy": "legal",
}
_REASON: Final = {"reason": "case 2026-114"}


class LegalHoldsApi:
    """The endpoints of legal holds."""

    def __init__(self, database: Database, holds: LegalHolds) -> None:
        self._database = database
        self._holds = holds

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path = f"{ADMIN_PATH}/users"
        return [
            Endpoint(
                "GET", f"{path}/holds", self.list_active, READERS, Returns(HoldDocument, _HOLD, shape=Shape.PAGE),
                query=PageQuery,
            ),
            Endpoint(
                "POST", f"{path}/{{id}}/hold", self.create, ADMINS, Returns(HoldDocument, _HOLD, status=201),
                (UserNotFound,), takes_idempotency_key=True, body=HoldBody, body_example=_REASON,
            ),
            Endpoint(
                "POST", f"{path}/{{id}}/release", self.release, ADMINS, Returns(HoldDocument, _HOLD, shape=Shape.LIST),
                (UserNotFound, InvalidStatusTransition), body=HoldBody, body_example=_REASON,
            ),
        ]  # fmt: skip

    async def list_active(self, request: web.Request) -> web.Response:
        """Return one page of the active holds."""
        query = parse_query(PageQuery, request)
        async with self._database.read_connection() as reading:
            found, total = await find_active(reading, page=query.page, limit=query.limit, order=query.order)
        return query.response(map(hold_document, found), total)

    async def create(self, request: web.Request) -> web.Response:
        """Place a hold on the person with this account: nothing of theirs is deleted or erased.

        Raises `UserNotFound`.
        """
        body = await parse_body(HoldBody, request)

        async def keep(tx: AsyncConnection, hold: Hold) -> None:
            await keep_response(request, tx, 201, hold_document(hold))

        hold = await self._holds.create(row_id_of(request), body.reason, caller_of(request), keep)
        return success(hold_document(hold), status=201)

    async def release(self, request: web.Request) -> web.Response:
        """Release every hold on the person with this account, and return them.

        Raises `UserNotFound`, `InvalidStatusTransition` without a hold.
        """
        body = await parse_body(HoldBody, request)
        released = await self._holds.release(row_id_of(request), body.reason, caller_of(request))
        return success([hold_document(each) for each in released])
