"""Authorization by role. An `Authenticator` identifies the caller: by API key, later by token."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDictProxy

from safevideo_common.auth.api_keys import Role
from safevideo_common.errors import Forbidden

Guard = Callable[[Role, Handler], Handler]

_RANK: Final = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were verified."""

    name: str
    role: Role

    def may_act_as(self, minimum: Role) -> bool:
        """Return whether this caller has the role `minimum` or a higher one."""
        return _RANK[self.role] >= _RANK[minimum]


class Authenticator(Protocol):
    """A way to identify the caller by the headers of a request."""

    async def authenticate(self, headers: CIMultiDictProxy[str]) -> Principal:
        """Return the caller. Raises `Unauthorized` if the credentials are missing or invalid."""
        ...


PRINCIPAL: Final = web.RequestKey("principal", Principal)
"""The caller of a guarded route."""


def guard(authenticator: Authenticator) -> Guard:
    """Return `require(minimum, handler)`, which makes a handler that only callers with that role reach.

    The handler raises `Unauthorized` for an unknown caller, and `Forbidden` for a lower role.
    """

    def require(minimum: Role, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            principal = await authenticator.authenticate(request.headers)
            if not principal.may_act_as(minimum):
                raise Forbidden(f"This needs the role {minimum.value}.")
            request[PRINCIPAL] = principal
            return await handler(request)

        return guarded

    return require
