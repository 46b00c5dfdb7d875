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

_OUR_ID: Final = re.compile(r"[0-9]{1,18}")
_SHAREGRAM_ID: Final = re.compile(r"sg_[!-~]{1,125}")


class PerformersApi:
    """What the API shows of performers."""

    def __init__(self, read: PerformerService) -> None:
        self._read = read

    async def show(self, request: web.Request) -> web.Response:
        """One performer, by our id or by Sharegram's.

        Raises `PerformerNotFound`, and `ValidationFailed` for an id of neither form.
        """
        view = await self._find(request.match_info["id"])
        return success(visible_to(request[PRINCIPAL], view))

    async def _find(self, given: str) -> PerformerView:
        if _OUR_ID.fullmatch(given):
            return await self._read.by_id(int(given))
        if _SHAREGRAM_ID.fullmatch(given):
            return await self._read.by_sharegram_id(given)
        raise ValidationFailed("This is no id.", details={"id": "must be a whole number or begin with sg_"})


def visible_to(principal: Principal, view: PerformerView) -> dict[str, object]:
    """What this caller may see: the e-mail address from moderator on."""
    shown: dict[str, object] = msgspec.to_builtins(view)
    if not principal.may_act_as(Role.MODERATOR):
        del shown["email"]
    return shown
