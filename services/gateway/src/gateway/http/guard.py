"""The guard in front of every endpoint: who calls, and may they?"""

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http.endpoint import Endpoint
from safevideo_common.auth.principal import PRINCIPAL, Authenticator
from safevideo_common.errors import Forbidden


class Guard:
    """The checks that an endpoint declares."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def protect(self, endpoint: Endpoint) -> Handler:
        """Return the endpoint's handler behind its checks.

        It raises `Unauthorized` for an unknown caller, and `Forbidden` for one without any of the roles.
        """
        roles = endpoint.roles
        if roles is None:
            return endpoint.handler

        async def guarded(request: web.Request) -> web.StreamResponse:
            principal = await self._authenticator.authenticate(request)
            if principal.role not in roles:
                raise Forbidden(f"This needs the role {' or '.join(sorted(roles))}.")
            request[PRINCIPAL] = principal
            return await endpoint.handler(request)

        return guarded
