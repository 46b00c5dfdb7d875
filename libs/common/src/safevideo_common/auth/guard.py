"""Who is calling, and whether they may. How they prove it is the `Authenticator`'s business: API keys, later tokens."""

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
    """A caller whose credentials were checked. A role includes those below it."""

    name: str
    role: Role

    def may_act_as(self, least: Role) -> bool:
        """Whether this caller has the role `least` or a higher one."""
        return _RANK[self.role] >= _RANK[least]


class Authenticator(Protocol):
    """Tells from a request's headers who is calling."""

    async def authenticate(self, headers: CIMultiDictProxy[str]) -> Principal:
        """The caller. Raises `Unauthorized` when the credentials are missing or name no one."""
        ...


PRINCIPAL: Final = web.RequestKey("principal", Principal)
"""The caller of a guarded route."""


def guard(authenticator: Authenticator) -> Guard:
    """`require(least, handler)`: a handler that callers below `least` do not reach.

    It raises `Unauthorized` for who is unknown and `Forbidden` for who is known and too low.
    """

    def require(least: Role, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            principal = await authenticator.authenticate(request.headers)
            if not principal.may_act_as(least):
                raise Forbidden(f"This needs the role {least.value}.")
            request[PRINCIPAL] = principal
            return await handler(request)

        return guarded

    return require
