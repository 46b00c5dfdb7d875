"""`GET /api/v1/performers/{id}`."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, NotRequired, TypedDict

import msgspec
from aiohttp import web

from gateway.http.endpoint import ANY_ROLE, MODERATORS, Endpoint, Returns
from gateway.performers.service import PerformerService, PerformerView
from safevideo_common.auth.principal import PRINCIPAL, Principal
from safevideo_common.clock import TimestampText
from safevideo_common.errors import PerformerNotFound, ValidationFailed
from safevideo_common.web.responses import success

_ROW_ID: Final = re.compile(r"[0-9]{1,18}")
_SHAREGRAM_ID: Final = re.compile(r"sg_[!-~]{1,125}")


_Id = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,18}|sg_[!-~]{1,125})$")]


class PerformerDocument(TypedDict):
    """A performer. `performerId` is Sharegram's id; `version` is the highest of its versions, null if it sends none."""

    id: int
    performerId: str
    username: str | None
    displayName: str | None
    email: NotRequired[str | None]
    profileImage: str | None
    bio: str | None
    verified: bool
    status: str
    version: int | None
    createdAt: TimestampText
    updatedAt: TimestampText


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
    "version": 9,
    "createdAt": "2026-11-24T20:58:25.123Z",
    "updatedAt": "2026-11-24T20:58:25.123Z",
}


class PerformersApi:
    """The endpoint of performers."""

    def __init__(self, performers: PerformerService) -> None:
        self._performers = performers

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declaration."""
        one, ids = Returns(PerformerDocument, _PERFORMER), {"id": _Id}
        path = "/api/v1/performers/{id}"
        return [Endpoint("GET", path, self.show, ANY_ROLE, one, (PerformerNotFound,), path_types=ids)]

    async def show(self, request: web.Request) -> web.Response:
        """Return one performer, by our id or by Sharegram's. Only moderators and admins see the e-mail address.

        Raises `PerformerNotFound`, `ValidationFailed`.
        """
        performer_id = request.match_info["id"]
        if _ROW_ID.fullmatch(performer_id):
            view = await self._performers.by_id(int(performer_id))
        elif _SHAREGRAM_ID.fullmatch(performer_id):
            view = await self._performers.by_sharegram_id(performer_id)
        else:
            raise ValidationFailed("Invalid id.", details={"id": "must be a whole number or begin with sg_"})
        return success(visible_to(request[PRINCIPAL], view))


def visible_to(principal: Principal, view: PerformerView) -> dict[str, Any]:
    """Return the fields that this caller may see."""
    fields: dict[str, Any] = msgspec.to_builtins(view)
    if principal.role not in MODERATORS:
        del fields["email"]
    return fields
