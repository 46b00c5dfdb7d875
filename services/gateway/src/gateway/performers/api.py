"""`GET /api/v1/performers/{id}`."""

import re
from typing import Final

import msgspec
from aiohttp import web

from gateway.performers.service import PerformerService, PerformerView
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.guard import PRINCIPAL, Principal
from safevideo_common.errors import ValidationFailed
from safevideo_common.web.responses import success

_ROW_ID: Final = re.compile(r"[0-9]{1,18}")
_SHAREGRAM_ID: Final = re.compile(r"sg_[!-~]{1,125}")


class PerformersApi:
    """The endpoint of performers."""

    def __init__(self, performers: PerformerService) -> None:
        self._performers = performers

    async def show(self, request: web.Request) -> web.Response:
        """Return one performer, by our id or by Sharegram's. Raises `PerformerNotFound`, `ValidationFailed`."""
        performer_id = request.match_info["id"]
        if _ROW_ID.fullmatch(performer_id):
            view = await self._performers.by_id(int(performer_id))
        elif _SHAREGRAM_ID.fullmatch(performer_id):
            view = await self._performers.by_sharegram_id(performer_id)
        else:
            raise ValidationFailed("Invalid id.", details={"id": "must be a whole number or begin with sg_"})
        return success(visible_to(request[PRINCIPAL], view))


def visible_to(principal: Principal, view: PerformerView) -> dict[str, object]:
    """Return the fields that this caller may see. The e-mail address needs the role moderator."""
    fields: dict[str, object] = msgspec.to_builtins(view)
    if not principal.may_act_as(Role.MODERATOR):
        del fields["email"]
    return fields
